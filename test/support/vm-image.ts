import { existsSync, mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { execa } from 'execa';
import { guest } from './guest.ts';

/** A container image of the test guest: its disk in /disk, its kernel and initrd in /boot. */
export interface VmImage {
  readonly name: string;
  /** OCI archive for `ctr images import`. */
  readonly archive: string;
  /** Annotations that boot the image's kernel directly, which takes a second less than its disk. */
  readonly kernelBoot: Readonly<Record<string, string>>;
}

const repository = join(import.meta.dirname, '../..');
export const vmctl = join(repository, 'bin/vmctl');

/** Packed once per guest and kept in the cache. */
export async function vmImage(): Promise<VmImage> {
  return await packGuest('guest', await guest());
}

/** The same with iperf3 and ethtool, by its kernel only: its disk boots without them. */
export async function netVmImage(): Promise<VmImage> {
  const { netInitrd, ...net } = await guest();
  return await packGuest('net-guest', { ...net, initrd: netInitrd });
}

/** Another disk under the name of `vmImage`, as when somebody has pushed a new build to the tag. */
export async function movedVmImage(): Promise<VmImage> {
  const files = await guest();
  return await packGuest('guest', { ...files, qcow2: files.raw }, 'moved-guest');
}

/** The files of a guest, in a directory of the cache whose name tells it from others. */
export interface GuestFiles {
  readonly qcow2: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly cmdline: string;
}

/** Packs a guest once and keeps it in the cache, under the name `file`. */
export async function packGuest(
  which: string,
  { qcow2, kernel, initrd, cmdline }: GuestFiles,
  file = which,
): Promise<VmImage> {
  const archive = join(repository, '.cache/images', `${basename(dirname(qcow2))}-${file}.tar`);
  const name = `example.test/${which}:1`;
  if (!existsSync(archive)) {
    mkdirSync(dirname(archive), { recursive: true });
    const files = ['--kernel', kernel, '--initrd', initrd];
    await execa(vmctl, ['image', 'pack', qcow2, '--name', name, ...files, '--output', archive]);
  }
  return {
    name,
    archive,
    kernelBoot: {
      'vmshim.io/kernel': '/boot/vmlinuz',
      'vmshim.io/initrd': '/boot/initrd.img',
      'vmshim.io/cmdline': cmdline,
    },
  };
}
