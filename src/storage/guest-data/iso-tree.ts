import type { TreeDirectory, TreeEntry, TreeFile } from './file-tree.ts';
import type { NameStyle } from './iso-names.ts';
import {
  BLOCK,
  directoryRecord,
  type Extent,
  nameEntry,
  packRecords,
  posixEntry,
  suspHeader,
} from './iso-records.ts';

/** One of the trees of an image: its directories in the order of its path table, each with its place. */
export interface IsoTree {
  readonly root: Extent;
  /** The directories' blocks, one after the other from the block the tree was given. */
  readonly bytes: Buffer;
  /** Records of the path table, by the byte order of their numbers. */
  readonly pathTable: { readonly little: Buffer; readonly big: Buffer };
}

interface Directory {
  readonly tree: TreeDirectory;
  readonly identifier: Buffer;
  /** Its number in the path table, from 1. */
  readonly number: number;
  readonly parent: number;
  readonly children: readonly { readonly entry: TreeEntry; readonly identifier: Buffer }[];
}

const SELF = Buffer.from([0]);
const PARENT = Buffer.from([1]);

/**
 * @param plan `block` is where the directories begin, `place` where a file's content lies.
 */
export function layTree(
  root: TreeDirectory,
  plan: {
    readonly style: NameStyle;
    readonly rockRidge: boolean;
    readonly block: number;
    readonly place: (file: TreeFile) => Extent;
  },
): IsoTree {
  const directories = byLevel(root, plan.style);
  const numbers = new Map(directories.map((directory) => [directory.tree, directory]));
  // A record's length does not depend on what it points to.
  const lengths = directories.map(
    (directory) => pack(directory, plan, () => ({ block: 0, bytes: 0 }), directory).length,
  );
  let next = plan.block;
  const extents = lengths.map((bytes): Extent => {
    const extent = { block: next, bytes };
    next += bytes / BLOCK;
    return extent;
  });
  const extentOf = (directory: Directory): Extent => extents[directory.number - 1] ?? { block: 0, bytes: 0 };
  const place = (entry: TreeEntry): Extent => {
    const directory = entry.kind === 'directory' ? numbers.get(entry) : undefined;
    if (directory !== undefined) return extentOf(directory);
    return entry.kind === 'file' ? plan.place(entry) : { block: 0, bytes: 0 };
  };
  const bytes = directories.map((directory) => {
    const parent = directories[directory.parent - 1] ?? directory;
    return pack(directory, plan, place, parent);
  });
  const [first = { block: plan.block, bytes: 0 }] = extents;
  const table = (order: 'little' | 'big'): Buffer =>
    Buffer.concat(directories.map((directory) => pathRecord(directory, extentOf(directory).block, order)));
  return {
    root: first,
    bytes: Buffer.concat(bytes),
    pathTable: { little: table('little'), big: table('big') },
  };
}

/** By level, then by parent, then by name, as a path table has to be (ECMA-119, 6.9.1). */
function byLevel(root: TreeDirectory, style: NameStyle): Directory[] {
  const found: Directory[] = [describe(root, SELF, 1, 1, style)];
  for (const directory of found) {
    for (const { entry, identifier } of directory.children) {
      if (entry.kind === 'directory')
        found.push(describe(entry, identifier, found.length + 1, directory.number, style));
    }
  }
  return found;
}

function describe(
  tree: TreeDirectory,
  identifier: Buffer,
  number: number,
  parent: number,
  style: NameStyle,
): Directory {
  const identifiers = style.identifiers(tree.entries);
  const children = tree.entries
    .map((entry, i) => ({ entry, identifier: identifiers[i] ?? Buffer.alloc(0) }))
    .sort((a, b) => Buffer.compare(a.identifier, b.identifier));
  return { tree, identifier, number, parent, children };
}

function pack(
  directory: Directory,
  { rockRidge }: { readonly rockRidge: boolean },
  place: (entry: TreeEntry) => Extent,
  parent: Directory,
): Buffer {
  const posix = (entry: TreeEntry): Buffer => (rockRidge ? posixOf(entry, place(entry)) : Buffer.alloc(0));
  const header = rockRidge && directory.number === 1 ? suspHeader() : Buffer.alloc(0);
  const self = Buffer.concat([header, posix(directory.tree)]);
  return packRecords([
    directoryRecord(SELF, place(directory.tree), 'directory', self),
    directoryRecord(PARENT, place(parent.tree), 'directory', posix(parent.tree)),
    ...directory.children.map(({ entry, identifier }) =>
      directoryRecord(
        identifier,
        place(entry),
        entry.kind,
        rockRidge ? Buffer.concat([posix(entry), nameEntry(entry.name)]) : undefined,
      ),
    ),
  ]);
}

/**
 * A directory is named by its parent, by itself and by each directory in it. Files with one serial number are one file to
 * libarchive, so it is the block, of which everything has one to itself.
 */
function posixOf(entry: TreeEntry, { block }: Extent): Buffer {
  if (entry.kind === 'file') return posixEntry('file', 1, block);
  return posixEntry('directory', 2 + entry.entries.filter(({ kind }) => kind === 'directory').length, block);
}

/** ECMA-119, 9.4. */
function pathRecord({ identifier, parent }: Directory, block: number, order: 'little' | 'big'): Buffer {
  const record = Buffer.alloc(8 + identifier.length + (identifier.length % 2));
  record[0] = identifier.length;
  if (order === 'little') {
    record.writeUInt32LE(block, 2);
    record.writeUInt16LE(parent, 6);
  } else {
    record.writeUInt32BE(block, 2);
    record.writeUInt16BE(parent, 6);
  }
  identifier.copy(record, 8);
  return record;
}
