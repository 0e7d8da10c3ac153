import { mkdirSync, readFileSync, watch } from 'node:fs';
import { join } from 'node:path';
import { detectCgroupLayout } from '../../src/host/cgroup-layout.ts';
import { planCgroup } from '../../src/host/cgroup-plan.ts';
import { cgroupPids } from '../../src/host/cgroup.ts';
import { readCgroupStats } from '../../src/host/cgroup-stats.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { tempDir } from '../support/temp-dir.ts';
import { BenchScope } from './bench-scope.ts';
import { ShimLab, type VmOptions } from './shim-lab.ts';

/** What one VM costs the node beside its guest's RAM, in bytes. */
export interface Overhead {
  readonly what: string;
  /** Guest RAM that the node has given. */
  readonly ram: number;
  /** The VM's cgroup without guest RAM and without cache that can be taken back. */
  readonly cgroup: number;
  /** Of that: memory of processes, and their page tables. */
  readonly anonymous: number;
  readonly pageTables: number;
  /** The shim, which is in another cgroup. */
  readonly shimPrivate: number;
}

const FILL = (mib: number): string =>
  `mount -t tmpfs -o size=${mib}m t /mnt; dd if=/dev/zero of=/mnt/f bs=1M count=${mib} 2>/dev/null; echo filled ${mib} MiB`;

/** One thing more than the least VM in each. `until` is what the guest prints when it is so far. */
const CASES: readonly { readonly what: string; readonly vm: VmOptions; readonly until?: RegExp }[] = [
  { what: 'least: 128 MiB, 1 vCPU', vm: {} },
  { what: '4 vCPUs', vm: { annotations: { 'vmshim.io/cpus': '4' } } },
  { what: '8 vCPUs', vm: { annotations: { 'vmshim.io/cpus': '8' } } },
  { what: '512 MiB, filled', ...filled(512, 380) },
  { what: '2 GiB, filled', ...filled(2048, 1800) },
  { what: 'a card of QEMU’s own network', vm: { annotations: { 'vmshim.io/network': 'user' } } },
  { what: 'video std', vm: { annotations: { 'vmshim.io/video': 'std' } } },
  { what: 'video virtio', vm: { annotations: { 'vmshim.io/video': 'virtio' } } },
  { what: '8 disks, written to', ...disks(8) },
  { what: 'microvm', vm: { annotations: { 'vmshim.io/machine': 'microvm' } } },
];

function filled(mib: number, touched: number): { vm: VmOptions; until: RegExp } {
  const vm = { annotations: { 'vmshim.io/memory': `${mib}Mi` }, cmdline: `vmguest.run="${FILL(touched)}"` };
  return { vm, until: /filled \d+ MiB/ };
}

function disks(count: number): { vm: VmOptions; until: RegExp } {
  const all = Array.from({ length: count }, (_, i) => ({ name: `d${i}`, empty: '64Mi' }));
  const write =
    'for d in /dev/vd*; do dd if=/dev/zero of=$d bs=1M count=32 2>/dev/null; done; echo written all';
  return {
    vm: { annotations: { 'vmshim.io/disks': JSON.stringify(all) }, cmdline: `vmguest.run="${write}"` },
    until: /written all/,
  };
}

/** Boots one guest after the other, under TCG, and looks when it is ready. */
export async function measureOverhead(): Promise<Overhead[]> {
  await using scope = new BenchScope();
  const directory = tempDir(scope);
  const lab = await ShimLab.make(scope);
  const results: Overhead[] = [];
  for (const [i, { what, vm, until = /vmguest: ready/ }] of [...CASES, shared(directory)].entries()) {
    const log = join(directory, `console-${i}`);
    const shim = await lab.start('vm', vm);
    try {
      const pid = await lab.create(shim, `file://${log}`);
      await shim.task.start({ id: shim.id });
      await printed(log, until);
      results.push({ what, ...measure(lab.cgroupOf(shim.id), pid, shim.pid) });
    } finally {
      await lab.end(shim);
    }
  }
  return results;
}

function shared(directory: string): { what: string; vm: VmOptions; until: RegExp } {
  const source = join(directory, 'shared');
  mkdirSync(source);
  const mount = { destination: '/data', type: 'bind', source, options: ['rbind', 'rw'] };
  const use =
    'modprobe virtiofs; mkdir /run/data; mount -t virtiofs data /run/data; dd if=/dev/zero of=/run/data/f bs=1M count=32 2>/dev/null; echo written all';
  return {
    what: 'a shared directory, written to',
    vm: {
      annotations: { 'vmshim.io/shared-directories': JSON.stringify([{ volume: '/data' }]) },
      mounts: [mount],
      cmdline: `vmguest.run="${use}"`,
    },
    until: /written all/,
  };
}

async function printed(path: string, pattern: RegExp): Promise<void> {
  for await (const _ of fileChanges(path)) if (pattern.test(readFileSync(path, 'latin1'))) return;
}

/** Yields at once, and then after every change. */
async function* fileChanges(path: string): AsyncGenerator<undefined> {
  const { promise: never } = Promise.withResolvers<never>();
  let { promise, resolve } = Promise.withResolvers<undefined>();
  const watcher = watch(path, () => resolve(undefined));
  try {
    for (;;) {
      yield undefined;
      await Promise.race([promise, never]);
      ({ promise, resolve } = Promise.withResolvers<undefined>());
    }
  } finally {
    watcher.close();
  }
}

function measure(cgroupPath: string, qemu: number, shim: number): Omit<Overhead, 'what'> {
  const host = new LinuxHost();
  const cgroup = planCgroup(detectCgroupLayout(host), cgroupPath, 'bench');
  const { memory } = readCgroupStats(host, cgroup);
  if (memory === undefined || !cgroupPids(host, cgroup).includes(qemu))
    throw new Error(`QEMU ${qemu} is not in ${cgroupPath}, or the node has no memory controller`);
  const pageTables = cgroupPids(host, cgroup).reduce((sum, pid) => sum + statusBytes(pid, 'VmPTE'), 0);
  return {
    ram: memory.shmem,
    cgroup: memory.usage - memory.shmem - memory.inactiveFile,
    anonymous: memory.rss,
    pageTables,
    shimPrivate: statusBytes(shim, 'RssAnon'),
  };
}

/** A field of proc_pid_status(5), in bytes. */
function statusBytes(pid: number, field: string): number {
  const text = readFileSync(`/proc/${pid}/status`, 'latin1');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * 1024;
}
