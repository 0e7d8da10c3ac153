/** Bytes of a logical block; every extent begins on one. */
export const BLOCK = 2048;

/** A piece of the disk, in blocks and bytes. */
export interface Extent {
  readonly block: number;
  readonly bytes: number;
}

const DIRECTORY_FLAG = 0x02;
/** 1 January 1980, midnight, UTC: the first day that every reader knows, so that equal files make equal images. */
const RECORD_DATE = [80, 1, 1, 0, 0, 0, 0];

/** Numbers stand in both byte orders (ECMA-119, 7.2.3 and 7.3.3). */
export function both16(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(value, 0);
  bytes.writeUInt16BE(value, 2);
  return bytes;
}

export function both32(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(value, 0);
  bytes.writeUInt32BE(value, 4);
  return bytes;
}

/** A directory record (ECMA-119, 9.1) with what the Rock Ridge extension adds. */
export function directoryRecord(
  identifier: Uint8Array,
  extent: Extent,
  kind: 'directory' | 'file',
  systemUse: Uint8Array = Buffer.alloc(0),
): Buffer {
  const evenName = identifier.length + ((identifier.length + 1) % 2);
  const length = 33 + evenName + systemUse.length;
  const record = Buffer.alloc(length + (length % 2));
  record[0] = record.length;
  both32(extent.block).copy(record, 2);
  both32(extent.bytes).copy(record, 10);
  record.set(RECORD_DATE, 18);
  record[25] = kind === 'directory' ? DIRECTORY_FLAG : 0;
  both16(1).copy(record, 28);
  record[32] = identifier.length;
  record.set(identifier, 33);
  record.set(systemUse, 33 + evenName);
  return record;
}

/** Records one after the other, none across the end of a block (ECMA-119, 6.8.1.1), in whole blocks. */
export function packRecords(records: readonly Buffer[]): Buffer {
  const pieces: Buffer[] = [];
  let at = 0;
  const fill = (): void => {
    const rest = (BLOCK - (at % BLOCK)) % BLOCK;
    pieces.push(Buffer.alloc(rest));
    at += rest;
  };
  for (const record of records) {
    if ((at % BLOCK) + record.length > BLOCK) fill();
    pieces.push(record);
    at += record.length;
  }
  fill();
  return Buffer.concat(pieces);
}

/** Rock Ridge (IEEE P1282): POSIX mode and links, read-only for all as `genisoimage -r` has it. */
export function posixEntry(kind: 'directory' | 'file', links: number, serial: number): Buffer {
  const mode = kind === 'directory' ? 0o040555 : 0o100444;
  return susp('PX', Buffer.concat([both32(mode), both32(links), both32(0), both32(0), both32(serial)]));
}

export function nameEntry(name: string): Buffer {
  return susp('NM', Buffer.concat([Buffer.alloc(1), Buffer.from(name)]));
}

/** What the first record of the root directory says: that system use entries are there, and whose. */
export function suspHeader(): Buffer {
  const extension = Buffer.from('IEEE_P1282');
  return Buffer.concat([
    susp('SP', Buffer.from([0xbe, 0xef, 0])),
    susp('ER', Buffer.concat([Buffer.from([extension.length, 0, 0, 1]), extension])),
  ]);
}

/** One entry of the System Use Sharing Protocol (IEEE P1281). */
function susp(signature: string, payload: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(signature), Buffer.from([4 + payload.length, 1]), payload]);
}
