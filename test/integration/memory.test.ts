/**
 * Memory of a VM as the node sees it: the limit of its cgroup, what is said where the pod's is smaller, and a VM that goes
 * beyond, which the kernel ends alone.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { controllerDir, planCgroup } from '../../src/host/cgroup-plan.ts';
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

interface Limit {
  /** Infinity where there is none. */
  read(): number;
  usage(): number;
  write(bytes: number): void;
}

/** The memory limit of a VM's cgroup. */
function memoryLimit(shims: ShimClient, id: string): Limit {
  const cgroup = planCgroup(detectCgroupLayout(new LinuxHost()), `/${shims.namespace}/${id}`, id);
  const { dir, hierarchy } = controllerDir(cgroup, 'memory')!;
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
