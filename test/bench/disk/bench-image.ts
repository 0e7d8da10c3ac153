import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fioInitrd, guest } from '../../support/guest.ts';
import { vmctl } from '../../support/vm-image.ts';

const MIB = 2 ** 20;
/** What of the disk has data in the image; all that lies behind is empty. */
export const BASE_MIB = 128;
const DISK_MIB = 1024;
/** Size of a volume beside it. */
export const VOLUME_MIB = 128;
export const BENCH_IMAGE = 'example.test/disk-bench:1';

export interface BenchImage {
  readonly kernel: string;
  readonly initrd: string;
  readonly cmdline: string;
  /** The disk that the image holds. */
  readonly qcow2: string;
  /** OCI archive. */
  readonly archive: string;
}

/** An image with a disk of 1 GiB, an eighth of it data, and a kernel whose initrd has fio. */
export async function benchImage(directory: string): Promise<BenchImage> {
  const initrd = await fioInitrd();
  const { kernel, cmdline } = await guest();
  const [raw, qcow2, archive] = ['disk.raw', 'disk.qcow2', 'image.tar'].map((name) =>
    join(directory, name),
  ) as [string, string, string];
  writeData(raw, BASE_MIB, DISK_MIB);
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2]);
  const files = ['--kernel', kernel, '--initrd', initrd, '--compress', 'none'];
  execFileSync(vmctl, ['image', 'pack', qcow2, '--name', BENCH_IMAGE, ...files, '--output', archive], {
    stdio: 'ignore',
  });
  return { kernel, initrd, cmdline, qcow2, archive };
}

/** A directory with a volume's `disk.img`, for one side. @returns the file. */
export function benchVolume(directory: string, side: string): string {
  const path = join(mkdtempSync(join(directory, `volume-${side}-`)), 'disk.img');
  writeData(path, VOLUME_MIB, VOLUME_MIB);
  return path;
}

function writeData(path: string, dataMib: number, sizeMib: number): void {
  const fd = openSync(path, 'w');
  const chunk = Buffer.alloc(MIB);
  for (let i = 0; i < dataMib; i++) {
    // No sector is all zeroes, or it would not be in the image.
    for (let at = 0; at < MIB; at += 512) chunk.writeUInt32LE(1 + i * MIB + at, at);
    writeSync(fd, chunk);
  }
  ftruncateSync(fd, sizeMib * MIB);
  closeSync(fd);
}
