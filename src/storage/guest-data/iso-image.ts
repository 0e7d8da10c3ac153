import { VmError } from '../../core/errors.ts';
import type { TreeDirectory, TreeFile } from './file-tree.ts';
import { jolietNames, type NameStyle, plainNames, utf16be } from './iso-names.ts';
import { BLOCK, both16, both32, directoryRecord, type Extent } from './iso-records.ts';
import { type IsoTree, layTree } from './iso-tree.ts';
import type { ImagePart, SparseImage } from './sparse-image.ts';

/** The first blocks belong to the system. */
const DESCRIPTORS_AT = 16;
/** Primary, Joliet's, the end of the list. */
const DESCRIPTORS = 3;
/** Rock Ridge's names must fit into one record, Joliet's have 64 characters. */
const MAX_NAME_BYTES = 64;

/**
 * An ISO 9660 image with Rock Ridge and Joliet names, which is what config drives on CD-ROM are. Source: ECMA-119, IEEE P1281
 * and P1282, Microsoft's Joliet specification.
 * @param label at most 16 characters, as given.
 * @throws VmError InvalidArgument for a name that is too long.
 */
export function isoImage(root: TreeDirectory, label: string): SparseImage {
  refuseLongNames(root);
  const tables = [layTables(root, plainNames, true), layTables(root, jolietNames, false)];
  let next = DESCRIPTORS_AT + DESCRIPTORS;
  const take = (blocks: number): number => {
    const block = next;
    next += blocks;
    return block;
  };
  const places = tables.map(({ tableBlocks, blocks }) => ({
    little: take(tableBlocks),
    big: take(tableBlocks),
    directories: take(blocks),
  }));
  const extents = new Map<TreeFile, Extent>();
  const place = (file: TreeFile): Extent => {
    const bytes = file.content.length;
    const extent = extents.get(file) ?? { block: take(Math.max(1, Math.ceil(bytes / BLOCK))), bytes };
    extents.set(file, extent);
    return extent;
  };
  const parts: ImagePart[] = [];
  const put = (block: number, bytes: Uint8Array): void => void parts.push({ offset: block * BLOCK, bytes });
  const trees = tables.map(({ style, rockRidge }, i) => {
    const at = places[i] ?? { little: 0, big: 0, directories: 0 };
    const tree = layTree(root, { style, rockRidge, block: at.directories, place });
    put(at.little, tree.pathTable.little);
    put(at.big, tree.pathTable.big);
    put(at.directories, tree.bytes);
    return { tree, ...at };
  });
  for (const [{ content }, { block }] of extents) if (content.length > 0) put(block, content);
  trees.forEach((tree, i) =>
    put(DESCRIPTORS_AT + i, descriptor({ ...tree, label, blocks: next, joliet: i === 1 })),
  );
  put(DESCRIPTORS_AT + trees.length, Buffer.from([255, ...Buffer.from('CD001'), 1]));
  return { size: next * BLOCK, parts };
}

/** How many blocks a tree's directories and each of its path tables need. */
function layTables(
  root: TreeDirectory,
  style: NameStyle,
  rockRidge: boolean,
): { style: NameStyle; rockRidge: boolean; blocks: number; tableBlocks: number } {
  const { bytes, pathTable } = layTree(root, {
    style,
    rockRidge,
    block: 0,
    place: () => ({ block: 0, bytes: 0 }),
  });
  return {
    style,
    rockRidge,
    blocks: bytes.length / BLOCK,
    tableBlocks: Math.ceil(pathTable.little.length / BLOCK),
  };
}

function refuseLongNames(directory: TreeDirectory): void {
  for (const entry of directory.entries) {
    if (Buffer.byteLength(entry.name) > MAX_NAME_BYTES) {
      throw new VmError(
        'InvalidArgument',
        `${JSON.stringify(entry.name)} is too long a name for a config drive on ISO 9660; shorten it to ${MAX_NAME_BYTES} bytes`,
      );
    }
    if (entry.kind === 'directory') refuseLongNames(entry);
  }
}

/** A primary or supplementary volume descriptor (ECMA-119, 8.4 and 8.5). */
function descriptor(volume: {
  readonly tree: IsoTree;
  readonly little: number;
  readonly big: number;
  readonly label: string;
  /** Of the whole image. */
  readonly blocks: number;
  readonly joliet: boolean;
}): Buffer {
  const { tree, label, joliet } = volume;
  const bytes = Buffer.alloc(BLOCK);
  const text = (value: string, at: number, length: number): void => {
    const encoded = joliet ? utf16be(value.padEnd(length / 2)) : Buffer.from(value.padEnd(length), 'latin1');
    encoded.copy(bytes, at, 0, length);
  };
  bytes[0] = joliet ? 2 : 1;
  bytes.write('CD001', 1, 'latin1');
  bytes[6] = 1;
  text('', 8, 32);
  text(label, 40, 32);
  both32(volume.blocks).copy(bytes, 80);
  // UCS-2, level 3: that the descriptor is Joliet's.
  if (joliet) bytes.write('%/E', 88, 'latin1');
  for (const at of [120, 124]) both16(1).copy(bytes, at);
  both16(BLOCK).copy(bytes, 128);
  both32(tree.pathTable.little.length).copy(bytes, 132);
  bytes.writeUInt32LE(volume.little, 140);
  bytes.writeUInt32BE(volume.big, 148);
  directoryRecord(Buffer.from([0]), tree.root, 'directory').copy(bytes, 156);
  for (const at of [190, 318, 446, 574]) text('', at, 128);
  for (const at of [702, 739, 776]) text('', at, joliet ? 36 : 37);
  for (const at of [813, 830]) bytes.write('1980010100000000', at, 'latin1');
  for (const at of [847, 864]) bytes.write('0000000000000000', at, 'latin1');
  bytes[881] = 1;
  return bytes;
}
