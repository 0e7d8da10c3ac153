/** Readers of names and addresses in annotations; undefined for what is none. */

/** Lower case; a unicast address that is not zero. */
export function parseMac(value: string): string | undefined {
  const mac = value.toLowerCase();
  const first = Number.parseInt(mac.slice(0, 2), 16);
  const wellFormed = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac);
  return wellFormed && (first & 1) === 0 && mac !== '00:00:00:00:00:00' ? mac : undefined;
}

/** Absolute path of a file in an image. */
export function parseImagePath(value: string): string | undefined {
  if (!/^\/[^\p{Cc}]{1,4094}$/u.test(value) || value.endsWith('/')) return undefined;
  return value.split('/').includes('..') ? undefined : value;
}
