/** An address with the length of its network's prefix. */
export interface IpPrefix {
  /** In canonical text. */
  readonly address: string;
  readonly prefixLength: number;
  /** Both, as CIDR. */
  readonly text: string;
}

/** The one text of an IPv4 or IPv6 address (RFC 5952), so that texts can be compared; undefined for anything else. */
export function canonicalIp(text: string): string | undefined {
  const bytes = ipBytes(text);
  return bytes === undefined ? undefined : formatBytes(bytes);
}

export function ipFamily(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4;
}

/** An address in CIDR, host bits kept: `10.1.0.5/24`. */
export function parsePrefix(text: string): IpPrefix | undefined {
  const [, ip = '', length = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const address = canonicalIp(ip);
  const prefixLength = Number(length);
  if (address === undefined || length === '' || prefixLength > maxPrefix(address)) return undefined;
  return { address, prefixLength, text: `${address}/${prefixLength}` };
}

/** The network an address is in, as CIDR: `10.1.0.0/24`. */
export function networkOf({ address, prefixLength }: IpPrefix): string {
  const bytes = (ipBytes(address) ?? []).map((byte, i) => {
    const bits = Math.min(8, Math.max(0, prefixLength - i * 8));
    return byte & (0xff00 >> bits);
  });
  return `${formatBytes(bytes)}/${prefixLength}`;
}

/** 32 or 128. */
export function maxPrefix(address: string): number {
  return ipFamily(address) === 4 ? 32 : 128;
}

/** In network order: 4 of IPv4, 16 of IPv6; undefined for what is no address. */
export function ipBytes(text: string): number[] | undefined {
  return text.includes(':') ? parseIpv6(text) : parseIpv4(text);
}

/** Four decimal numbers; no leading zeros, which some readers take for octal. */
function parseIpv4(text: string): number[] | undefined {
  const parts = text.split('.');
  const valid =
    parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256);
  return valid ? parts.map(Number) : undefined;
}

/** RFC 4291, 2.2, all three forms; no zone. */
function parseIpv6(text: string): number[] | undefined {
  const halves = text.split('::');
  const [head, tail] = halves.map((half) => (half === '' ? [] : parseGroups(half)));
  if (halves.length > 2 || head === undefined) return undefined;
  if (halves.length === 1) return head.length === 16 ? head : undefined;
  if (tail === undefined || head.length + tail.length > 14) return undefined;
  return [...head, ...new Array<number>(16 - head.length - tail.length).fill(0), ...tail];
}

function parseGroups(text: string): number[] | undefined {
  const groups = text.split(':');
  const bytes: number[] = [];
  for (const [i, group] of groups.entries()) {
    const ipv4 = i === groups.length - 1 && group.includes('.') ? parseIpv4(group) : undefined;
    if (ipv4 === undefined && !/^[0-9a-f]{1,4}$/i.test(group)) return undefined;
    const value = Number.parseInt(group, 16);
    bytes.push(...(ipv4 ?? [value >> 8, value & 0xff]));
  }
  return bytes;
}

function formatBytes(bytes: readonly number[]): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0));
  const hex = groups.map((group) => group.toString(16));
  const { start, length } = longestZeros(groups);
  if (length < 2) return hex.join(':');
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`;
}

/** The first of the longest runs. */
function longestZeros(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
