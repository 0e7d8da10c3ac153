/**
 * Addresses as numbers, just enough to tell what lies on a link and to write masks. Input was checked at the edge. They are
 * arrays of small numbers: BigInt would take as long for one network as all else that is said of it.
 */
export interface IpNetwork {
  readonly family: 4 | 6;
  readonly network: Groups;
  readonly prefixLength: number;
}

/** 4 of 8 bits, or 8 of 16. */
type Groups = readonly number[];

export function familyOf(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4;
}

export function networkOf(address: string, prefixLength: number): IpNetwork {
  const family = familyOf(address);
  return { family, network: masked(parse(address), family, prefixLength), prefixLength };
}

export function parseCidr(cidr: string): IpNetwork {
  const [address = '', prefix] = cidr.split('/');
  return networkOf(address, prefix === undefined ? bits(familyOf(address)) : Number(prefix));
}

export function contains({ family, network, prefixLength }: IpNetwork, address: string): boolean {
  return family === familyOf(address) && same(masked(parse(address), family, prefixLength), network);
}

export function sameNetwork(a: IpNetwork, b: IpNetwork): boolean {
  return a.family === b.family && a.prefixLength === b.prefixLength && same(a.network, b.network);
}

export function isLinkLocal(address: string): boolean {
  return /^fe[89ab][0-9a-f]:/i.test(address);
}

/** The first address of the network, without prefix length. */
export function formatNetwork({ family, network }: IpNetwork): string {
  return format(family, network);
}

/** `255.255.255.0`, `ffff:ffff:ffff:ffff::`. */
export function formatMask({ family, prefixLength }: Pick<IpNetwork, 'family' | 'prefixLength'>): string {
  return format(family, mask(family, prefixLength));
}

function bits(family: 4 | 6): number {
  return family === 4 ? 32 : 128;
}

function mask(family: 4 | 6, prefixLength: number): Groups {
  const [count, width] = family === 4 ? [4, 8] : [8, 16];
  const all = (1 << width) - 1;
  return Array.from({ length: count }, (_, i) => {
    const free = width - Math.min(width, Math.max(0, prefixLength - i * width));
    return (all << free) & all;
  });
}

function masked(groups: Groups, family: 4 | 6, prefixLength: number): Groups {
  const kept = mask(family, prefixLength);
  return groups.map((group, i) => group & (kept[i] ?? 0));
}

function same(a: Groups, b: Groups): boolean {
  return a.every((group, i) => group === b[i]);
}

function parse(address: string): Groups {
  if (familyOf(address) === 4) return address.split('.').map(Number);
  const [head = '', tail = ''] = address.split('::');
  const before = parseGroups(head);
  const after = parseGroups(tail);
  const zeros = Array<number>(Math.max(0, 8 - before.length - after.length)).fill(0);
  return [...before, ...zeros, ...after];
}

/** RFC 4291, 2.2: the last two groups may be written as an IPv4 address. */
function parseGroups(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return Number.parseInt(group, 16);
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
    return [a * 256 + b, c * 256 + d];
  });
}

function format(family: 4 | 6, groups: Groups): string {
  if (family === 4) return groups.join('.');
  const [start, length] = longestZeros(groups);
  if (length < 2) return hex(groups);
  return `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}

function hex(groups: Groups): string {
  return groups.map((group) => group.toString(16)).join(':');
}

/** Index and length of the longest run of zeros, the first of equals (RFC 5952, 4.2). */
function longestZeros(groups: Groups): readonly [number, number] {
  let longest: readonly [number, number] = [0, 0];
  for (let start = 0; start < groups.length; start++) {
    let end = start;
    while (groups[end] === 0) end++;
    if (end - start > longest[1]) longest = [start, end - start];
    start = end;
  }
  return longest;
}
