import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packGuest, type VmImage } from './vm-image.ts';

const scripts = join(import.meta.dirname, '../../scripts');

/** A container image of the cloud guest of `scripts/cloud-guest`, built when the cache lacks it: Debian with cloud-init. */
export async function cloudImage(): Promise<VmImage> {
  const { stdout } = await promisify(execFile)(join(scripts, 'build-cloud-guest'));
  const directory = stdout.trim();
  return packGuest('cloud-guest', {
    qcow2: join(directory, 'disk.qcow2'),
    kernel: join(directory, 'kernel'),
    initrd: join(directory, 'initrd'),
    cmdline: readFileSync(join(scripts, 'cloud-guest/cmdline'), 'utf8').trim(),
  });
}
