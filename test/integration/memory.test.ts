/**
 * Memory of a VM as the node sees it: the limit of its cgroup, what is said where the pod's is smaller, and a VM that goes
 * beyond, which the kernel ends alone.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import t from 'tap';
import { io } from '#wire-metrics';
import { type CgroupDir, controllerDir, planCgroup } from '../../src/host/cgroup-plan.ts';
import { detectCgroupLayout } from '../../src/host/cgroup-layout.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { type RunningShim, ShimClient } from '../support/shim-client.ts';

const MIB = 2 ** 20;

void t.test('a VM that needs more than its limit ends alone', async (t) => {
  const shims = await ShimClient.make(t);
  const boot = async (id: string): Promise<{ shim: RunningShim; io: ReturnType<ShimClient['io']> }> => {
    const shim = await shims.shim(id);
    const io = shims.io(id);
    await shim.task.create({ id, bundle: shim.bundle, ...io.request });
    await shim.task.start({ id });
    return { shim, io };
  };
  const [hungry, modest] = [await boot('hungry'), await boot('modest')];
  await Promise.all([hungry, modest].map(({ io }) => io.console.until('vmguest: ready')));

  const limit = memoryLimit(shims, 'hungry');
  const bytes = limit.read();
  t.ok(bytes > (128 + 200) * MIB && bytes < (128 + 1024) * MIB, `limit: ${bytes}`);
  // As if QEMU had leaked what its limit leaves beside the RAM.
  limit.write(limit.usage() + 4 * MIB);
  hungry.io.type('mount -t tmpfs -o size=90% t /mnt && dd if=/dev/zero of=/mnt/fill bs=1M');
  t.match(await hungry.shim.task.wait({ id: 'hungry' }), { exitStatus: 137 });
  await shims.events.until('exit', 'hungry');
  t.same(shims.events.topics('hungry'), ['create', 'start', 'oom', 'exit'], 'TaskOOM comes before TaskExit');

  modest.io.type('echo still $((6 * 7))');
  await modest.io.console.until('still 42');
  t.match(await hungry.shim.task.state({ id: 'hungry' }), { status: 3, exitStatus: 137 }, 'its shim lives');
  await hungry.shim.task.delete({ id: 'hungry' });
  await shims.end(hungry.shim);
  await shims.remove(modest.shim);
});

void t.test('limit_memory = false leaves the cgroup without one', async (t) => {
  const shims = await ShimClient.make(t, { shimConfig: 'limit_memory = false' });
  const shim = await shims.shim('free');
  await shim.task.create({ id: 'free', bundle: shim.bundle });
  t.ok(memoryLimit(shims, 'free').read() > 2 ** 50);
  await shims.remove(shim);
});

void t.test('a page cache that the node can take back is no part of the working set', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await shims.shim('cached');
  await shim.task.create({ id: 'cached', bundle: shim.bundle });
  const before = await workingSet(shim);
  // As a QEMU that reads and writes a disk through the node's page cache.
  const write =
    'echo $$ >"$1/cgroup.procs" && exec dd if=/dev/zero of="$2" bs=1M count=48 conv=fsync status=none';
  await execa('sh', ['-c', write, 'sh', memoryDir(shims, 'cached').dir, join(shims.directory, 'written')]);
  const after = await workingSet(shim);
  t.ok(
    after.usage - before.usage > 40 * MIB,
    `the cgroup is charged ${(after.usage - before.usage) / MIB} MiB`,
  );
  const grown = after.workingSet - before.workingSet;
  t.ok(grown < 8 * MIB, `of which ${grown / MIB} MiB are in use`);
  t.ok(before.workingSet > 8 * MIB, 'QEMU itself is');
  await shims.remove(shim);
});

/** As kubelet and containerd's CRI plugin work it out: what is used, but for file pages that nobody has used of late. */
async function workingSet({ task, id }: RunningShim): Promise<{ usage: number; workingSet: number }> {
  const { stats } = await task.stats({ id });
  const value = stats?.value ?? new Uint8Array();
  const { v1, v2 } = io.containerd.cgroups;
  const [usage, inactive] =
    stats?.typeUrl === 'io.containerd.cgroups.v1.Metrics'
      ? [v1.Metrics.decode(value).memory?.usage?.usage, v1.Metrics.decode(value).memory?.totalInactiveFile]
      : [v2.Metrics.decode(value).memory?.usage, v2.Metrics.decode(value).memory?.inactiveFile];
  return { usage: usage ?? 0, workingSet: Math.max(0, (usage ?? 0) - (inactive ?? 0)) };
}

interface Limit {
  /** Infinity where there is none. */
  read(): number;
  usage(): number;
  write(bytes: number): void;
}

function memoryDir(shims: ShimClient, id: string): CgroupDir {
  const cgroup = planCgroup(detectCgroupLayout(new LinuxHost()), `/${shims.namespace}/${id}`, id);
  return controllerDir(cgroup, 'memory')!;
}

/** The memory limit of a VM's cgroup. */
function memoryLimit(shims: ShimClient, id: string): Limit {
  const { dir, hierarchy } = memoryDir(shims, id);
  const [limit, usage] =
    hierarchy.version === 1
      ? ['memory.limit_in_bytes', 'memory.usage_in_bytes']
      : ['memory.max', 'memory.current'];
  const read = (file: string): string => readFileSync(join(dir, file), 'utf8').trim();
  return {
    read: () => (read(limit) === 'max' ? Infinity : Number(read(limit))),
    usage: () => Number(read(usage)),
    write: (bytes) => writeFileSync(join(dir, limit), String(bytes)),
  };
}
