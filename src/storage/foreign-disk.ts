import { VmError } from '../core/errors.ts';
import type { ImageProbe } from './image-format.ts';
import { REMEDY } from './image-remedy.ts';

/** QEMU's name of a block driver that an image of another hypervisor is read with. */
export type ForeignFormat = 'vmdk' | 'vhdx' | 'vpc' | 'vdi';

/**
 * Tells which driver reads a disk image that is neither qcow2 nor raw, so that nothing has to guess, or undefined when
 * none of the four does. What follows names in the image to other files of the host (VMDK extents and parents,
 * differencing disks) never gets as far as QEMU. Sources: VMware Virtual Disk Format 5.0; Microsoft's Virtual Hard Disk
 * Image Format Specification; VirtualBox VDICore.h; QEMU block/vmdk.c for what it follows.
 * @throws VmError InvalidArgument for an image that is of such a format but not whole in itself.
 */
export function probeForeignDisk(probe: ImageProbe): ForeignFormat | undefined {
  const { head, tail } = probe;
  if (starts(head, 'KDMV')) {
    checkVmdk(probe);
    return 'vmdk';
  }
  if (starts(head, 'vhdxfile')) return 'vhdx';
  if (starts(head, 'conectix') || starts(tail, 'conectix')) {
    checkVhd(probe, starts(head, 'conectix') ? head : tail);
    return 'vpc';
  }
  if (head.length > 0x50 && head.readUInt32LE(0x40) === VDI_MAGIC) {
    checkVdi(probe);
    return 'vdi';
  }
  return undefined;
}

const VDI_MAGIC = 0xbe_da_10_7f;
const SECTOR = 512;
/** QEMU reads this much of the descriptor, from sector 1 on, whatever the header says. */
const VMDK_DESCRIPTOR = 20 * SECTOR;
const WHOLE_VMDK = ['monolithicSparse', 'streamOptimized'];

function checkVmdk(probe: ImageProbe): void {
  const { head } = probe;
  if (head.length < SECTOR + VMDK_DESCRIPTOR) refuse(probe, 'its VMDK header is cut off', REMEDY.damaged);
  const capacity = head.readBigUInt64LE(12);
  const descriptorAt = head.readBigUInt64LE(28);
  // Without a capacity QEMU takes the descriptor for the image, and opens the files that it names.
  if (capacity === 0n || descriptorAt !== 1n) {
    refuse(probe, `its VMDK header has capacity ${capacity} and descriptor ${descriptorAt}`, EXPORT);
  }
  const text = head.toString('latin1', SECTOR, SECTOR + VMDK_DESCRIPTOR).split('\0')[0] ?? '';
  const value = (key: string): string | undefined =>
    new RegExp(`^\\s*${key}\\s*=\\s*"?([^"\\r\\n]*)"?`, 'im').exec(text)?.[1];
  const type = value('createType') ?? '';
  if (!WHOLE_VMDK.includes(type)) {
    refuse(probe, `its VMDK createType is ${quote(type)}, whose data lies in other files`, EXPORT);
  }
  // QEMU looks for this word anywhere, in comments as well, and opens what stands behind it.
  const hint = /parentFileNameHint[^\r\n]*/i.exec(text)?.[0];
  if (hint !== undefined || (value('parentCID') ?? NO_PARENT).toLowerCase() !== NO_PARENT) {
    refuse(
      probe,
      `it is a VMDK snapshot (${quote(hint ?? `parentCID=${value('parentCID') ?? ''}`)})`,
      EXPORT,
    );
  }
  const extents = text.match(/^\s*(RW|RDONLY|NOACCESS)\s.*$/gim) ?? [];
  const [extent] = extents;
  if (extents.length !== 1 || extent === undefined || !/^\s*RW\s+\d+\s+SPARSE\s/i.test(extent)) {
    const list = extents.map((line) => line.trim()).join('; ');
    refuse(
      probe,
      `its VMDK extents are ${quote(list)}, which is not the one sparse extent in the file`,
      EXPORT,
    );
  }
}

const NO_PARENT = 'ffffffff';
const EXPORT = 'export it as one file (monolithicSparse or streamOptimized) from the hypervisor that made it';

/** Source: the specification's "Hard Disk Footer Format": type 2 is fixed, 3 dynamic, 4 differencing. */
function checkVhd(probe: ImageProbe, footer: Buffer): void {
  if (footer.length < SECTOR) refuse(probe, 'its VHD footer is cut off', REMEDY.damaged);
  const type = footer.readUInt32BE(60);
  if (type === 2 || type === 3) return;
  if (type === 4) refuse(probe, 'it is a differencing VHD, whose parent is another file', MERGE);
  refuse(probe, `its VHD type is ${type}`, REMEDY.damaged);
}

/** 1 is dynamic, 2 fixed, 4 differencing. */
function checkVdi(probe: ImageProbe): void {
  const type = probe.head.readUInt32LE(0x4c);
  if (type === 1 || type === 2) return;
  if (type === 4) refuse(probe, 'it is a differencing VDI, whose parent is another file', MERGE);
  refuse(probe, `its VDI type is ${type}`, REMEDY.damaged);
}

const MERGE = 'merge it with its parent where both are';

function starts(bytes: Buffer, text: string): boolean {
  return bytes.toString('latin1', 0, text.length) === text;
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 100));
}

function refuse({ name }: ImageProbe, what: string, remedy: string): never {
  throw new VmError('InvalidArgument', `disk image ${name} is refused: ${what}; ${remedy}`);
}
