/** How one of the two trees of an image names its entries. */
export interface NameStyle {
  /** Identifiers for the entries of one directory, in their order. */
  readonly identifiers: (
    entries: readonly { readonly name: string; readonly kind: 'directory' | 'file' }[],
  ) => Buffer[];
}

/**
 * The names of the plain tree: 8.3 of capital letters, digits and underscores (ECMA-119, 7.5 to 7.6 at level 1). Nobody looks
 * at them who can read Rock Ridge or Joliet, so all they must be is different.
 */
export const plainNames: NameStyle = {
  identifiers: (entries) => {
    const taken = new Set<string>();
    return entries.map(({ name, kind }) => {
      const dot = kind === 'file' ? name.lastIndexOf('.') : -1;
      const base = letters(dot > 0 ? name.slice(0, dot) : name) || '_';
      const extension = dot > 0 ? letters(name.slice(dot + 1)).slice(0, 3) : '';
      for (let number = 0; ; number++) {
        const tail = number === 0 ? '' : String(number);
        const short = base.slice(0, 8 - tail.length) + tail;
        const full = kind === 'file' ? `${short}.${extension};1` : short;
        if (taken.has(full)) continue;
        taken.add(full);
        return Buffer.from(full);
      }
    });
  },
};

/** The names of Joliet's tree: UCS-2, big-endian. */
export const jolietNames: NameStyle = {
  identifiers: (entries) => entries.map(({ name, kind }) => utf16be(kind === 'file' ? `${name};1` : name)),
};

export function utf16be(text: string): Buffer {
  return Buffer.from(text, 'utf16le').swap16();
}

function letters(text: string): string {
  return text.toUpperCase().replaceAll(/[^A-Z0-9]/gu, '_');
}
