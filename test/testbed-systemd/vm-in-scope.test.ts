/** A VM in a scope of systemd's, by the task API alone: the quick one of this folder. */
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { PodSlices, podSlice, systemctl } from '../support/cri-slices.ts';
import { ShimClient } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const MIB = 2 ** 20;
const read = (path: string): string => readFileSync(path, 'utf8').trim();

void t.test('a VM in a delegated scope', async (t) => {
  const slices = new PodSlices();
  t.teardown(() => slices[Symbol.asyncDispose]());
  const slice = podSlice('1');
  slices.add('1');
  const shims = await ShimClient.make(t);
  const id = 'vm1';
  const shim = await shims.shim(id, {
    cgroupsPath: `${slice}:cri-containerd:${id}`,
    resources: { cpu: { quota: 150_000, period: 100_000 }, memory: { limit: 128 * MIB } },
  });
  const io = shims.io(id);
  await shim.task.create({ id, bundle: shim.bundle, ...io.request });
  await shim.task.start({ id });
  await io.console.until('vmguest: ready');

  const scope = `/kubepods.slice/${slice}/cri-containerd-${id}.scope`;
  const dir = `/sys/fs/cgroup${scope}/vm`;
  const { qemu, cgroup } = vmRecord(shims, id, shims.namespace);
  t.equal(cgroup, `${scope}/vm`);
  t.equal(read(`/proc/${pidOf(qemu)}/cgroup`), `0::${scope}/vm`);
  const limits = (): string[] => ['cpu.max', 'memory.max'].map((file) => read(`${dir}/${file}`));
  const before = limits();
  t.equal(before[0], '150000 100000');
  t.ok(Number(before[1]) > 128 * MIB, `${before[1]} bytes`);
  systemctl('daemon-reload');
  t.same(limits(), before, 'a reload of systemd leaves them');
  t.ok((await shim.task.stats({ id })).stats?.value);

  writeFileSync(`${dir}/memory.max`, String(Number(read(`${dir}/memory.current`)) + 4 * MIB));
  io.type('mount -t tmpfs -o size=90% t /mnt && dd if=/dev/zero of=/mnt/fill bs=1M');
  t.match(await shim.task.wait({ id }), { exitStatus: 137 });
  await shims.events.until('exit', id);
  t.same(
    shims.events.topics(id),
    ['create', 'start', 'oom', 'exit'],
    'the scope stays, so that it can be told why QEMU ended',
  );
  t.ok(slices.left().length > 0);
  await shim.task.delete({ id });
  await shims.end(shim);
  // systemd learns of the end by itself.
  while (slices.left().length > 0) await delay(20);
});
