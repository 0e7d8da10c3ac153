import { VmError } from '../core/errors.ts';
import { REMEDY } from './image-remedy.ts';
import { HEADER_BYTES, MAX_VIRTUAL_SIZE, parseQcow2Header, QCOW2_MAGIC } from './qcow2-header.ts';

export type DiskFormat = 'qcow2' | 'raw';

/** The parts of a disk image that tell what it is. */
export interface ImageProbe {
  /** How messages call the file. */
  readonly name: string;
  /** The first `HEADER_BYTES` of the file, or all of a smaller one. */
  readonly head: Buffer;
  /** The last 512 bytes, or all of a smaller one. */
  readonly tail: Buffer;
  /** Size of the file in bytes. */
  readonly fileBytes: number;
}

interface Magic {
  readonly what: string;
  readonly remedy: string;
  readonly where: 'head' | 'tail';
  readonly offset: number;
  readonly bytes: Buffer;
}

const magic = (
  what: string,
  offset: number,
  bytes: string,
  remedy: string,
  where: Magic['where'] = 'head',
): Magic => ({
  what,
  remedy,
  where,
  offset,
  bytes: Buffer.from(bytes, 'latin1'),
});

const UNPACK = 'unpack it first, then pack the qcow2 or raw file that is inside';

/**
 * Files that are no plain disk contents. Taken as raw they would boot to nothing, without a word why. Sources: the
 * probe functions of QEMU's block drivers, file(1)'s magic for the rest.
 */
const FOREIGN: readonly Magic[] = [
  magic('a VMDK image', 0, 'KDMV', REMEDY.convert),
  magic('a VMDK image', 0, 'COWD', REMEDY.convert),
  magic('a VMDK descriptor', 0, '# Disk DescriptorFile', REMEDY.convert),
  magic('a VHDX image', 0, 'vhdxfile', REMEDY.convert),
  magic('a VHD image', 0, 'conectix', REMEDY.convert),
  magic('a VHD image', 0, 'conectix', REMEDY.convert, 'tail'),
  magic('a VDI image', 64, '\x7f\x10\xda\xbe', REMEDY.convert),
  magic('a QED image', 0, 'QED\0', REMEDY.convert),
  magic('a Parallels image', 0, 'WithoutFreeSpace', REMEDY.convert),
  magic('a Parallels image', 0, 'WithouFreSpacExt', REMEDY.convert),
  magic('a DMG image', 0, 'koly', REMEDY.convert, 'tail'),
  magic('LUKS-encrypted', 0, 'LUKS\xba\xbe', REMEDY.decrypt),
  magic('gzip-compressed', 0, '\x1f\x8b', UNPACK),
  magic('xz-compressed', 0, '\xfd7zXZ\0', UNPACK),
  magic('zstd-compressed', 0, '\x28\xb5\x2f\xfd', UNPACK),
  magic('bzip2-compressed', 0, 'BZh', UNPACK),
  magic('lz4-compressed', 0, '\x04\x22\x4d\x18', UNPACK),
  magic('a zip archive', 0, 'PK\x03\x04', UNPACK),
  magic('a 7z archive', 0, '7z\xbc\xaf\x27\x1c', UNPACK),
  magic('a tar archive', 257, 'ustar', UNPACK),
];

const ISO9660_AT = 32_769;
const BOOT_SIGNATURE_AT = 510;
const SECTOR = 512;

/** What a disk image is. */
export interface ImageFormat {
  readonly format: DiskFormat;
  /** Bytes the guest sees, a multiple of 512. */
  readonly virtualSize: number;
  /** Whether firmware may find something to boot: false for a raw disk without the signature of a boot sector. */
  readonly bootable: boolean;
}

/**
 * Tells the format of a disk image by its contents, never by its name.
 * @throws VmError InvalidArgument for every other format and for a damaged or unsafe qcow2.
 */
export function parseImageFormat(probe: ImageProbe): ImageFormat {
  const { name, head, tail, fileBytes } = probe;
  const refuse = (what: string, remedy: string): never => {
    throw new VmError('InvalidArgument', `disk image ${name} is refused: ${what}; ${remedy}`);
  };
  if (fileBytes === 0) refuse('it is empty', 'put a bootable qcow2 or raw disk there');
  if (head.length < Math.min(fileBytes, HEADER_BYTES))
    refuse('it could not be read to the end', REMEDY.damaged);
  if (head.length >= 4 && head.readUInt32BE(0) === QCOW2_MAGIC) {
    const { virtualSize } = parseQcow2Header(head, { name, fileBytes, backing: 'refused' });
    // Its first sector may lie anywhere in it, compressed as well.
    return { format: 'qcow2', virtualSize, bootable: true };
  }
  for (const { what, remedy, where, offset, bytes } of FOREIGN) {
    const from = where === 'head' ? head : tail;
    if (from.subarray(offset, offset + bytes.length).equals(bytes)) {
      refuse(`it is ${what}, not a qcow2 or raw disk`, remedy);
    }
  }
  // An ISO with a boot sector is a hybrid: as a disk it boots like the USB stick it was made for.
  const bootSector = head.length >= SECTOR && head.readUInt16LE(BOOT_SIGNATURE_AT) === 0xaa55;
  if (!bootSector && head.toString('latin1', ISO9660_AT, ISO9660_AT + 5) === 'CD001') {
    refuse(
      'it is an ISO 9660 CD-ROM and no disk',
      'CD-ROM drives are a later feature: install it to a qcow2 disk first',
    );
  }
  // QEMU pads a raw file to whole sectors and reads the missing bytes as zeros.
  const virtualSize = Math.ceil(fileBytes / SECTOR) * SECTOR;
  if (virtualSize > MAX_VIRTUAL_SIZE) refuse(`its size is ${fileBytes} bytes, above 64 TiB`, REMEDY.damaged);
  return { format: 'raw', virtualSize, bootable: bootSector };
}

/**
 * A raw disk that nothing could boot from: BIOS wants the signature AA55h at byte 510 (BIOS Boot Specification 1.01,
 * §6.5.1), UEFI a partition table behind a protective MBR with the same signature (UEFI 2.10, §5.2.3). Such a file is
 * most often no disk at all, and as one it would boot to nothing without a word why.
 * @throws VmError InvalidArgument
 */
export function expectBootable({ bootable }: ImageFormat, name: string): void {
  if (bootable) return;
  throw new VmError(
    'InvalidArgument',
    `disk image ${name} is refused: it is neither a qcow2 image nor a raw disk with a boot sector (bytes 510 and 511 are not 55 AA); ${REMEDY.bootable}`,
  );
}
