/** Bytes of one directory entry. */
export const ENTRY_BYTES = 32;
const LFN_CHARACTERS = 13;
const ATTRIBUTE_LFN = 0x0f;
const LAST_LFN = 0x40;
/** Where the 13 UTF-16 units of a long name's entry stand: offset and bytes of each piece. */
const LFN_PIECES = [
  [1, 10],
  [14, 12],
  [28, 4],
] as const;

/** A name in 8.3 form, padded with spaces to 11 bytes, as ASCII. */
export type ShortName = string;

/**
 * The short names of one directory's entries, each once. A name that is 8.3 already is its own; any other gets a number.
 * Source: Microsoft's FAT specification, "Generating 8.3 names from long names".
 */
export function shortNames(names: readonly string[]): ShortName[] {
  const taken = new Set(names.map(ownShortName).filter((name) => name !== undefined));
  return names.map((name) => {
    const own = ownShortName(name);
    if (own !== undefined) return own;
    const dot = name.lastIndexOf('.');
    const base = letters(dot > 0 ? name.slice(0, dot) : name) || '_';
    const extension = dot > 0 ? letters(name.slice(dot + 1)).slice(0, 3) : '';
    for (let number = 1; ; number++) {
      const tail = `~${number}`;
      const short = pad(base.slice(0, 8 - tail.length) + tail, extension);
      if (taken.has(short)) continue;
      taken.add(short);
      return short;
    }
  });
}

/** How many entries a name takes: those of the long name, and the short one. */
export function nameEntryCount(name: string): number {
  return 1 + (ownShortName(name) === undefined ? Math.ceil(name.length / LFN_CHARACTERS) : 0);
}

/** Entries that carry the long name, in the order they stand on disk before the short one; none where that says it all. */
export function longNameEntries(name: string, short: ShortName): Buffer {
  const count = nameEntryCount(name) - 1;
  const entries = Buffer.alloc(count * ENTRY_BYTES);
  if (count === 0) return entries;
  // One zero ends the name, 0xffff fills what is left.
  const units = Buffer.alloc(count * LFN_CHARACTERS * 2, 0xff);
  units.write(`${name}\0`, 'utf16le');
  const checksum = shortNameChecksum(short);
  for (let i = 0; i < count; i++) {
    const ordinal = count - i;
    const at = i * ENTRY_BYTES;
    entries[at] = ordinal | (i === 0 ? LAST_LFN : 0);
    entries[at + 11] = ATTRIBUTE_LFN;
    entries[at + 13] = checksum;
    let from = (ordinal - 1) * LFN_CHARACTERS * 2;
    for (const [offset, length] of LFN_PIECES) {
      units.copy(entries, at + offset, from, from + length);
      from += length;
    }
  }
  return entries;
}

/** Ties a long name to its short one: readers that know short names only may have changed it since. */
export function shortNameChecksum(short: ShortName): number {
  let sum = 0;
  for (const byte of Buffer.from(short, 'latin1')) sum = (((sum & 1) << 7) + (sum >> 1) + byte) & 0xff;
  return sum;
}

function ownShortName(name: string): ShortName | undefined {
  const match = /^([A-Z0-9_-]{1,8})(?:\.([A-Z0-9_-]{1,3}))?$/.exec(name);
  return match === null ? undefined : pad(match[1] ?? '', match[2] ?? '');
}

function letters(text: string): string {
  return text
    .toUpperCase()
    .replaceAll(/[. ]/g, '')
    .replaceAll(/[^A-Z0-9_-]/gu, '_');
}

function pad(base: string, extension: string): ShortName {
  return base.padEnd(8) + extension.padEnd(3);
}
