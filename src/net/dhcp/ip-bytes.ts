/** Bytes of an address in network order: 4 of IPv4, 16 of IPv6; undefined for any other text. RFC 4291, section 2.2. */
export function parseIp(text: string): Uint8Array | undefined {
  return text.includes(':') ? parseIpv6(text) : parseIpv4(text);
}

/** Address and prefix length of a CIDR; the bits behind the prefix are cleared. */
export function parseCidr(text: string): Prefix | undefined {
  const [, address, length] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const bytes = address === undefined ? undefined : parseIp(address);
  if (bytes === undefined || Number(length) > bytes.length * 8) return undefined;
  return prefixOf(bytes, Number(length));
}

export interface Prefix {
  readonly network: Uint8Array;
  readonly length: number;
}

export function prefixOf(address: Uint8Array, length: number): Prefix {
  return { network: address.map((byte, i) => byte & maskByte(length, i)), length };
}

export function contains(prefix: Prefix, address: Uint8Array): boolean {
  return (
    prefix.network.length === address.length &&
    prefix.network.every((byte, i) => byte === ((address[i] ?? 0) & maskByte(prefix.length, i)))
  );
}

export function ipv4Mask(prefixLength: number): Uint8Array {
  return Uint8Array.from([0, 1, 2, 3], (i) => maskByte(prefixLength, i));
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

export const isUnspecified = (address: Uint8Array): boolean => address.every((byte) => byte === 0);

/** fe80::/10 */
export function isLinkLocalIpv6(address: Uint8Array): boolean {
  return address.length === 16 && address[0] === 0xfe && ((address[1] ?? 0) & 0xc0) === 0x80;
}

/** Six bytes of a MAC address written as hex pairs. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[\da-f]{2}(:[\da-f]{2}){5}$/i.test(text)) return undefined;
  return Uint8Array.from(text.split(':'), (pair) => Number.parseInt(pair, 16));
}

function maskByte(prefixLength: number, index: number): number {
  const bits = Math.min(8, Math.max(0, prefixLength - index * 8));
  return (0xff << (8 - bits)) & 0xff;
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split('.');
  const valid =
    parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256);
  return valid ? Uint8Array.from(parts, Number) : undefined;
}

function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head, tail] = [ipv6Groups(halves[0] ?? ''), ipv6Groups(halves[1] ?? '')];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  return Uint8Array.from([...head, ...new Array<number>(missing).fill(0), ...tail]);
}

function ipv6Groups(text: string): number[] | undefined {
  if (text === '') return [];
  const bytes: number[] = [];
  for (const [i, group] of text.split(':').entries()) {
    const last = i === text.split(':').length - 1;
    const ipv4 = last && group.includes('.') ? parseIpv4(group) : undefined;
    if (ipv4 !== undefined) bytes.push(...ipv4);
    else if (/^[\da-f]{1,4}$/i.test(group))
      bytes.push(Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16) & 0xff);
    else return undefined;
  }
  return bytes;
}
