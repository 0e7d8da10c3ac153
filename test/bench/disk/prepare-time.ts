import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { Samples } from '../samples.ts';

/** Milliseconds of a VM's start. */
export interface PrepareTime {
  /** Finding the image's disk and making the overlay, with its directories and all that is synced. */
  readonly disk: Samples;
  /** The guest data drive: documents, vfat image, file. */
  readonly drive: Samples;
  /** Both of the same start. */
  readonly both: Samples;
}

/** Each sample is of a process of its own, since a shim does this once, with code that has not run before. */
export function measurePrepare(directory: string, qcow2: string, rounds: number): PrepareTime {
  const rootfs = join(directory, 'rootfs');
  mkdirSync(join(rootfs, 'disk'), { recursive: true });
  copyFileSync(qcow2, join(rootfs, 'disk/disk.qcow2'));
  const time = { disk: new Samples(), drive: new Samples(), both: new Samples() };
  const place = mkdtempSync(join(directory, 'prepare-'));
  for (let round = 0; round <= rounds; round++) {
    const program = join(import.meta.dirname, 'prepare-once.ts');
    const said = execFileSync(process.execPath, [program, rootfs, place], { encoding: 'utf8' });
    // The first one warms caches, and makes what a node makes once.
    if (round === 0) continue;
    const { disk, drive } = JSON.parse(said) as { disk: number; drive: number };
    time.disk.add(disk);
    time.drive.add(drive);
    time.both.add(disk + drive);
  }
  return time;
}
