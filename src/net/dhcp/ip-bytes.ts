import { ipBytes } from '../cni/ip-address.ts';

/** Bytes of an address in network order: 4 of IPv4, 16 of IPv6; undefined for any other text. */
export function parseIp(text: string): Uint8Array | undefined {
  const bytes = ipBytes(text);
  return bytes === undefined ? undefined : Uint8Array.from(bytes);
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

/** The link-local address that a host makes of its MAC address (RFC 4291, appendix A). */
export function linkLocalOf(mac: Uint8Array): Uint8Array {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac;
  return Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f);
}
