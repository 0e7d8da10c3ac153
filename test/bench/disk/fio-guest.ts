import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createCgroup, joinCgroup, removeCgroup } from '../../../src/host/cgroup.ts';
import { detectCgroupLayout } from '../../../src/host/cgroup-layout.ts';
import { planCgroup } from '../../../src/host/cgroup-plan.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import type { Containerd } from '../../support/containerd.ts';
import { ctrRun } from '../../support/ctr-run.ts';
import { ExpectText } from '../../support/expect-text.ts';
import type { BenchScope } from '../bench-scope.ts';
import { BENCH_IMAGE, type BenchImage } from './bench-image.ts';

const MEMORY_MIB = 384;

/** What fio says of one job. */
export interface FioResult {
  readonly kib: number;
  readonly iops: number;
}

/** How a volume is opened: `none` is past the host's page cache. */
export interface VolumeModes {
  readonly cache: string;
  readonly aio: string;
}

/** A guest that has booted, with its console. */
export class FioGuest {
  readonly #console: ExpectText;
  readonly #type: (line: string) => void;

  private constructor(console: ExpectText, type: (line: string) => void) {
    this.#console = console;
    this.#type = type;
  }

  /** A VM of this shim under containerd: an overlay, made by the product, over the disk of an image, and a volume. */
  static async ours(
    scope: BenchScope,
    containerd: Containerd,
    { cmdline }: BenchImage,
    volume: string,
  ): Promise<{ readonly guest: FioGuest; readonly volumeModes: VolumeModes }> {
    const annotations = {
      'vmshim.io/memory': `${MEMORY_MIB}Mi`,
      'vmshim.io/cpus': '1',
      'vmshim.io/network': 'none',
      'vmshim.io/kernel': '/boot/vmlinuz',
      'vmshim.io/initrd': '/boot/initrd.img',
      'vmshim.io/cmdline': cmdline,
    };
    const flags = ['--mount', `type=bind,src=${dirname(volume)},dst=/data,options=rbind:rw`];
    const run = await ctrRun(containerd, 'fio', { image: BENCH_IMAGE, annotations, flags });
    scope.defer(async () => {
      run.type('poweroff');
      await run.exited;
    });
    const guest = await FioGuest.#booted(run.console, (line) => {
      run.type(line);
    });
    const status = (await containerd.vmctl('status', 'fio')).stdout;
    const [, cache, aio] = /disk +data: .*, cache (\w+), aio (\w+)$/m.exec(status) ?? [];
    if (cache === undefined || aio === undefined) throw new Error(`vmctl status names no volume: ${status}`);
    return { guest, volumeModes: { cache, aio } };
  }

  /**
   * QEMU as one starts it by hand: an overlay of `qemu-img create` over the same disk, and a volume, both with the same cache and
   * aio. It gets a cgroup beside that of ours, or what else a busy machine does would take CPU from the one and not from the other.
   */
  static async raw(
    scope: BenchScope,
    directory: string,
    image: BenchImage,
    volume: VolumeModes & { readonly path: string },
  ): Promise<FioGuest> {
    const overlay = join(directory, 'raw-overlay.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', image.qcow2, '-F', 'qcow2', overlay]);
    const args = [
      ...['-machine', 'q35,accel=tcg', '-cpu', 'max', '-smp', '1', '-m', String(MEMORY_MIB)],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio'],
      ...['-kernel', image.kernel, '-initrd', image.initrd, '-append', image.cmdline],
      ...['-drive', `file=${overlay},format=qcow2,if=none,id=disk,cache=writeback,aio=threads`],
      ...['-device', 'virtio-blk-pci,drive=disk'],
      '-drive',
      `file=${volume.path},format=raw,if=none,id=volume,cache=${volume.cache},aio=${volume.aio}`,
      ...['-device', 'virtio-blk-pci,drive=volume'],
    ];
    const qemu = spawn('qemu-system-x86_64', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const host = new LinuxHost();
    const cgroup = planCgroup(detectCgroupLayout(host), '/default/fio-raw', 'raw');
    createCgroup(host, cgroup);
    scope.defer(() => removeCgroup(host, cgroup, AbortSignal.timeout(10_000)));
    scope.defer(() => end(qemu));
    joinCgroup(host, cgroup, qemu.pid ?? 0);
    return await FioGuest.#booted(new ExpectText(qemu.stdout), (line) => void qemu.stdin.write(`${line}\n`));
  }

  static async #booted(console: ExpectText, type: (line: string) => void): Promise<FioGuest> {
    await console.until(/vmguest: ready[^]*vmguest# /);
    return new FioGuest(console, type);
  }

  /** Runs one job on the disk. @param options as fio's, without dashes. */
  async fio(options: Readonly<Record<string, string | number>>): Promise<FioResult> {
    const words = Object.entries({
      ...{ name: 'job', filename: '/dev/vda', direct: 1, ioengine: 'libaio', time_based: 1, minimal: 1 },
      ...options,
    }).map(([key, value]) => (key === 'minimal' ? '--minimal' : `--${key}=${value}`));
    const from = this.#console.text.length;
    // Of fio's terse format: KiB/s and operations per second, read and written.
    this.#type(`fio ${words.join(' ')} 2>&1 | cut -d ';' -f 7,8,48,49`);
    // Up to the prompt, or the next line would be typed into what this one still says.
    const [all, ...said] = await this.#console.until(
      /(?:(\d+);(\d+);(\d+);(\d+)|fio: .*)\r?\n[^]*vmguest# /,
      from,
    );
    if (all.includes('fio: ')) throw new Error(`fio failed in the guest: ${all}`);
    const [readKib = 0, readIops = 0, writeKib = 0, writeIops = 0] = said.map(Number);
    return { kib: readKib + writeKib, iops: readIops + writeIops };
  }
}

async function end(qemu: ChildProcess): Promise<void> {
  if (qemu.exitCode !== null || qemu.signalCode !== null) return;
  const ended = once(qemu, 'exit');
  qemu.kill('SIGKILL');
  await ended;
}
