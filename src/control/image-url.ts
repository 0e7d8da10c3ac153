import { VmError } from '../core/errors.ts';

/** What to download, or undefined when the text names a local file. @throws VmError InvalidArgument. */
export function parseImageUrl(text: string): URL | undefined {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) return undefined;
  const url = URL.parse(text);
  if (url !== null && (url.protocol === 'http:' || url.protocol === 'https:')) return url;
  throw new VmError(
    'InvalidArgument',
    `image source ${JSON.stringify(text.slice(0, 100))} is no http:// or https:// URL; give one of these or a file`,
  );
}

/** A URL fit for a message: what stands before the host or behind the path may be a password or a signature. */
export function showUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** Where a redirection leads. Nothing leads out of TLS, and credentials stay with the host they were given for. */
export function followRedirect(from: URL, location: string | undefined): URL {
  const to = location === undefined ? null : URL.parse(location, from.href);
  const refuse = (why: string): never => {
    throw new VmError(
      'FailedPrecondition',
      `${showUrl(from)} redirects ${why}; give the URL of the image itself`,
    );
  };
  if (to === null) return refuse('to nowhere');
  if (to.protocol !== 'http:' && to.protocol !== 'https:') return refuse(`to a ${to.protocol} address`);
  if (from.protocol === 'https:' && to.protocol === 'http:') return refuse('from https to http');
  if (to.origin === from.origin && to.username === '') {
    to.username = from.username;
    to.password = from.password;
  }
  return to;
}
