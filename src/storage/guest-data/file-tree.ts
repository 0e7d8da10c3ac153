import { VmError } from '../../core/errors.ts';
import type { DriveFile } from './guest-data.ts';

/** A directory of a drive, its entries in the order in which they were first named. */
export interface TreeDirectory {
  readonly kind: 'directory';
  readonly name: string;
  readonly entries: readonly TreeEntry[];
}

export interface TreeFile {
  readonly kind: 'file';
  readonly name: string;
  readonly content: Uint8Array;
}

export type TreeEntry = TreeDirectory | TreeFile;

/**
 * The tree that paths make. Names are compared without case, as FAT does.
 * @throws VmError InvalidArgument for a name no drive can hold, or one that is there twice.
 */
export function fileTree(files: readonly DriveFile[]): TreeDirectory {
  const root = new Branch('');
  for (const { path, content } of files) {
    const parts = path.split('/');
    const name = parts.pop() ?? '';
    let directory = root;
    for (const part of parts) directory = directory.child(part, path);
    directory.add(name, { kind: 'file', name, content }, path);
  }
  return root.build();
}

class Branch {
  readonly #name: string;
  readonly #entries = new Map<string, Branch | TreeFile>();

  constructor(name: string) {
    this.#name = name;
  }

  child(name: string, path: string): Branch {
    const known = this.#entries.get(name.toLowerCase());
    if (known instanceof Branch) return known;
    const branch = new Branch(name);
    this.add(name, branch, path);
    return branch;
  }

  add(name: string, entry: Branch | TreeFile, path: string): void {
    // What Windows refuses in a name; the rest of Unicode is fine. 255 is the limit of long names.
    const sound = /^[^\p{Cc}\\/:*?"<>|]{1,255}$/u.test(name) && !/^\.{1,2}$|[. ]$/.test(name);
    if (!sound) throw wrong(path, 'has a name that a drive cannot hold');
    if (this.#entries.has(name.toLowerCase())) throw wrong(path, 'is there twice');
    this.#entries.set(name.toLowerCase(), entry);
  }

  build(): TreeDirectory {
    const entries = [...this.#entries.values()].map((entry) =>
      entry instanceof Branch ? entry.build() : entry,
    );
    return { kind: 'directory', name: this.#name, entries };
  }
}

function wrong(path: string, why: string): VmError {
  return new VmError(
    'InvalidArgument',
    `${JSON.stringify(path.slice(0, 120))} of the guest’s drive ${why}; give it another name`,
  );
}
