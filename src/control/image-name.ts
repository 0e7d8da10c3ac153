import { VmError } from '../core/errors.ts';

export interface ImageName {
  /** As containerd's image store and the CRI know it: registry, path and tag. */
  readonly full: string;
  readonly tag: string;
}

const NAME_MAX = 255;
const DOMAIN = /^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d+)?$/;
const PATH = /^[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

/**
 * An image name in its full form, since `image: vm-debian` in a pod means `docker.io/library/vm-debian:latest` to the
 * CRI. Source: the reference grammar of the distribution project.
 * @throws VmError InvalidArgument.
 */
export function parseImageName(text: string): ImageName {
  const refuse = (why: string): never => {
    throw new VmError(
      'InvalidArgument',
      `image name ${JSON.stringify(text)} ${why}; give one like "registry.example/vm/debian:12"`,
    );
  };
  if (text.includes('@')) refuse('has a digest, which only the finished image can tell');
  const slash = text.indexOf('/');
  const first = text.slice(0, Math.max(0, slash));
  const hasDomain = first === 'localhost' || /[.:]/.test(first) || first !== first.toLowerCase();
  const domain = hasDomain ? first : 'docker.io';
  const rest = hasDomain ? text.slice(slash + 1) : text;
  const colon = rest.lastIndexOf(':');
  const bare = colon === -1 ? rest : rest.slice(0, colon);
  const tag = colon === -1 ? 'latest' : rest.slice(colon + 1);
  const path = domain === 'docker.io' && !bare.includes('/') ? `library/${bare}` : bare;
  if (!DOMAIN.test(domain)) refuse(`has no valid registry name in "${domain}"`);
  if (!PATH.test(path)) refuse('has no valid path: lower-case letters, digits and single separators only');
  if (!TAG.test(tag)) refuse(`has no valid tag in "${tag}"`);
  if (domain.length + path.length + 1 > NAME_MAX) refuse(`is longer than ${NAME_MAX} characters`);
  return { full: `${domain}/${path}:${tag}`, tag };
}
