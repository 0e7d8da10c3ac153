import { VmError } from './errors.ts';

/**
 * Readers of what annotations and the files of guest data volumes have in common. Undefined for what is malformed; no
 * message may show a value, since it may be a secret.
 */

/** User data beyond this is more than any image reads at boot; OpenStack's own limit is 64 KiB. */
export const MAX_USER_DATA = 10 << 20;

export const SSH_KEYS_TYPE = 'public keys as in authorized_keys, one on each line';
export const META_TYPE = 'a JSON object whose values are strings';
export const HOSTNAME_TYPE = 'a host name of letters, digits, dashes and dots';

const KEY_LINE =
  /^([^#\s].*\s)?(ssh-(ed25519|rsa|dss)|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com|ssh-(ed25519|rsa)-cert-v01@openssh\.com)\s+[A-Za-z0-9+/]{32,}={0,2}(\s.*)?$/;

/** Comments and empty lines are left out, repeated keys as well. */
export function parseSshKeys(text: string): readonly string[] | undefined {
  const lines = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  const sound = lines.every((line) => !/\p{Cc}/u.test(line.replaceAll('\t', ' ')) && KEY_LINE.test(line));
  return sound ? [...new Set(lines)] : undefined;
}

export function parseMeta(text: string): Readonly<Record<string, string>> | undefined {
  const value = parseJsonObject(text);
  if (value === undefined) return undefined;
  const entries = Object.entries(value);
  const strings = entries.flatMap(([key, entry]) =>
    typeof entry === 'string' ? [[key, entry] as const] : [],
  );
  return strings.length === entries.length ? Object.fromEntries(strings) : undefined;
}

export function parseJsonObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

export function parseHostname(text: string): string | undefined {
  const labels = text.split('.');
  const sound = labels.every((label) => /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/.test(label));
  return sound && text.length <= 253 ? text : undefined;
}

export function parseBase64(text: string): Uint8Array | undefined {
  const packed = text.replaceAll(/\s/g, '');
  if (packed.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(packed)) return undefined;
  return parseUserData(Buffer.from(packed, 'base64'));
}

/** Empty user data is none. */
export function parseUserData(bytes: Uint8Array): Uint8Array | undefined {
  return bytes.length <= MAX_USER_DATA ? bytes : undefined;
}

/** A crypt(3) hash such as `mkpasswd` prints; `*` and `!`, which lock an account, are none. */
export function parsePasswordHash(text: string): string | undefined {
  return /^\$[A-Za-z0-9]+\$[!-9;-~]{8,512}$/.test(text) ? text : undefined;
}

/** Never with the value. */
export function malformed(what: string, wanted: string): VmError {
  return new VmError('InvalidArgument', `${what} is not what it must be; give ${wanted}`);
}
