import { type Header, type Pack, pack } from 'tar-stream';

/** A tar entry without contents of its own choice of owner and time: two archives of one input have the same bytes. */
export interface TarEntry {
  readonly name: string;
  readonly type: 'file' | 'directory';
  readonly mode: number;
  /** Bytes; 0 for a directory. */
  readonly size: number;
}

const EPOCH = new Date(0);

export function tarHeaders({ name, type, mode, size }: TarEntry): Partial<Header> & Pick<Header, 'name'> {
  return { name, type, mode, size, uid: 0, gid: 0, uname: '', gname: '', mtime: EPOCH };
}

export function fileEntry(name: string, size: number, mode = 0o444): TarEntry {
  return { name, type: 'file', mode, size };
}

export function directoryEntry(name: string): TarEntry {
  return { name, type: 'directory', mode: 0o755, size: 0 };
}

/** The header block of a file whose contents are written by other means. */
export async function tarHeaderBlock(entry: TarEntry): Promise<Buffer> {
  const archive = pack();
  archive.entry(tarHeaders(entry)).on('error', () => undefined);
  for await (const block of tarBlocks(archive)) return block;
  throw new Error('tar-stream gave no header');
}

/** The entry of a small file or a directory, padded to whole blocks. */
export async function tarEntryBytes(name: string, contents?: Buffer): Promise<Buffer> {
  const archive = pack();
  const entry = contents === undefined ? directoryEntry(name) : fileEntry(name, contents.length);
  if (contents === undefined) archive.entry(tarHeaders(entry));
  else archive.entry(tarHeaders(entry), contents);
  archive.finalize();
  const blocks: Buffer[] = [];
  for await (const block of tarBlocks(archive)) blocks.push(block);
  return Buffer.concat(blocks).subarray(0, -END_OF_TAR.length);
}

/** What a pack stream gives: its types leave that open. */
export function tarBlocks(archive: Pack): AsyncIterable<Buffer> {
  return archive as AsyncIterable<Buffer>;
}

/** Zeros up to the next block of 512 bytes. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((512 - (size % 512)) % 512);
}

export const END_OF_TAR: Buffer = Buffer.alloc(1024);
