import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** The test guest of `scripts/guest`: absolute paths of files that are shared by all tests and never written to. */
export interface Guest {
  /** A bzImage. */
  readonly kernel: string;
  readonly initrd: string;
  /** The same with iperf3 and ethtool in it, of which its command `net-server` makes use. */
  readonly netInitrd: string;
  /** Bootable by a PC BIOS and by UEFI; 256 MiB, of which tests may overwrite what lies behind the first 64. */
  readonly qcow2: string;
  /** The same disk, raw and sparse. */
  readonly raw: string;
  /** The kernel command line that the disk boots with; made for a quick boot under TCG. */
  readonly cmdline: string;
}

const scripts = join(import.meta.dirname, '../../scripts');
let built: Promise<Guest> | undefined;

/**
 * Builds the guest when the cache lacks it; the test-bed's node, which has nothing to build it with, is told where it lies.
 * Test files that run at the same time build it once.
 */
export function guest(): Promise<Guest> {
  return (built ??= build());
}

async function build(): Promise<Guest> {
  const directory = process.env['VMSHIM_TEST_GUEST'] ?? (await buildGuest());
  return {
    kernel: join(directory, 'kernel'),
    initrd: join(directory, 'initrd'),
    netInitrd: join(directory, 'initrd-net'),
    qcow2: join(directory, 'tiny.qcow2'),
    raw: join(directory, 'tiny.raw'),
    cmdline: readFileSync(join(scripts, 'guest/cmdline'), 'utf8').trim(),
  };
}

/** An initrd with fio in it, for kernel boot. Needs fio on this machine. */
export function fioInitrd(): Promise<string> {
  return buildGuest('fio');
}

async function buildGuest(...what: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(join(scripts, 'build-guest'), what);
  return stdout.trim();
}
