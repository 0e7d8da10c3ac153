/** Addresses as numbers, just enough to tell what lies on a link and to write masks. Input was checked at the edge. */
export interface IpNetwork {
  readonly family: 4 | 6;
  readonly network: bigint;
  readonly prefixLength: number;
}

export function familyOf(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4;
}

export function networkOf(address: string, prefixLength: number): IpNetwork {
  const family = familyOf(address);
  return { family, network: toNumber(address) & mask(family, prefixLength), prefixLength };
}

export function parseCidr(cidr: string): IpNetwork {
  const [address = '', prefix] = cidr.split('/');
  return networkOf(address, prefix === undefined ? bits(familyOf(address)) : Number(prefix));
}

export function contains({ family, network, prefixLength }: IpNetwork, address: string): boolean {
  return family === familyOf(address) && (toNumber(address) & mask(family, prefixLength)) === network;
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

function mask(family: 4 | 6, prefixLength: number): bigint {
  const all = (1n << BigInt(bits(family))) - 1n;
  return all ^ (all >> BigInt(prefixLength));
}

function toNumber(address: string): bigint {
  if (familyOf(address) === 4) return fromParts(address.split('.').map(Number), 8n);
  const [head = '', tail] = withoutDots(address).split('::');
  const before = groups(head);
  const after = groups(tail ?? '');
  const zeros = Array<number>(Math.max(0, 8 - before.length - after.length)).fill(0);
  return fromParts([...before, ...zeros, ...after], 16n);
}

/** RFC 4291, 2.2: the last two groups may be written as an IPv4 address. */
function withoutDots(address: string): string {
  return address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a: string, b: string, c: string, d: string) => {
    const group = (high: string, low: string): string => (Number(high) * 256 + Number(low)).toString(16);
    return `${group(a, b)}:${group(c, d)}`;
  });
}

function groups(text: string): number[] {
  return text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
}

function fromParts(parts: readonly number[], width: bigint): bigint {
  return parts.reduce((sum, part) => (sum << width) | BigInt(part), 0n);
}

function format(family: 4 | 6, value: bigint): string {
  const [count, width] = family === 4 ? [4, 8n] : [8, 16n];
  const part = (i: number): number =>
    Number((value >> (BigInt(count - 1 - i) * width)) & ((1n << width) - 1n));
  const parts = Array.from({ length: count }, (_, i) => part(i));
  if (family === 4) return parts.join('.');
  const text = parts.map((group) => group.toString(16)).join(':');
  // The longest run of zero groups, the first of equals (RFC 5952, 4.2).
  const runs = [...text.matchAll(/(?:^|(?<=:))0(?::0)+(?=:|$)/g)].sort((a, b) => b[0].length - a[0].length);
  const [run] = runs;
  if (run === undefined) return text;
  const before = text.slice(0, run.index).replace(/:$/, '');
  const after = text.slice(run.index + run[0].length).replace(/^:/, '');
  return `${before}::${after}`;
}
