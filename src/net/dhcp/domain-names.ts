/** True for what fits into DNS's wire form: labels of 1 to 63 bytes, 255 bytes together (RFC 1035, section 2.3.4). */
export function isDomainName(name: string): boolean {
  const labels = labelsOf(name);
  return labels.every((label) => /^[\x21-\x7e]{1,63}$/.test(label)) && labels.join('.').length <= 253;
}

/**
 * Domain names in DNS's wire form, one after the other. With compression (RFC 1035, section 4.1.4; pointers count from the
 * first byte) as DHCPv4 may have it; DHCPv6 and router advertisements must not.
 */
export function encodeDomainNames(names: readonly string[], compression: 'compressed' | 'plain'): Uint8Array {
  const bytes: number[] = [];
  const known = new Map<string, number>();
  for (const name of names) {
    const labels = labelsOf(name);
    let pointer: number | undefined;
    for (const [i, label] of labels.entries()) {
      const rest = labels.slice(i).join('.').toLowerCase();
      pointer = known.get(rest);
      if (pointer !== undefined) break;
      if (compression === 'compressed' && bytes.length < 0x4000) known.set(rest, bytes.length);
      bytes.push(label.length, ...Buffer.from(label, 'latin1'));
    }
    if (pointer === undefined) bytes.push(0);
    else bytes.push(0xc0 | (pointer >> 8), pointer & 0xff);
  }
  return Uint8Array.from(bytes);
}

/** As many of the names, from the first on, as fit into `room` bytes; empty when not even one does. */
export function encodeFittingDomainNames(
  names: readonly string[],
  compression: 'compressed' | 'plain',
  room: number,
): Uint8Array {
  for (let count = names.length; count > 0; count--) {
    const bytes = encodeDomainNames(names.slice(0, count), compression);
    if (bytes.length <= room) return bytes;
  }
  return new Uint8Array();
}

function labelsOf(name: string): readonly string[] {
  return name.replace(/\.$/, '').split('.');
}
