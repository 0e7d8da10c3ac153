/** `systemctl restart containerd` while a VM runs, where containerd is the service of the distribution's package. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ContainerdService } from '../support/containerd-service.ts';
import { PodSlices, podSlice, systemctl } from '../support/cri-slices.ts';
import { guest } from '../support/guest.ts';
import { untilFile } from '../support/until-file.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const LINES = 200;
const cgroupOf = (pid: number): string =>
  readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().replace('0::', '');

void t.test('containerd is restarted as a service', async (t) => {
  const slices = new PodSlices();
  t.teardown(() => slices[Symbol.asyncDispose]());
  slices.add('1');
  const containerd = await ContainerdService.run(t, () => slices.left());
  const id = 'vm1';
  const scope = `cri-containerd-${id}.scope`;
  // The shim writes it, so containerd's absence must not show in it.
  const console = join(containerd.directory, 'console.txt');
  const { cmdline } = await guest();
  const args = await containerd.runArguments(id, {
    flags: [
      ...['--detach', '--log-uri', `file://${console}`],
      ...['--cgroup', `${podSlice('1')}:cri-containerd:${id}`],
    ],
    annotations: { 'vmshim.io/cmdline': `${cmdline} vmguest.run="lines ${LINES} 0.05"` },
  });
  await containerd.ctr(...args);
  await untilFile(console, /line 20\r?\n/);
  const { pid } = containerd;
  const before = vmRecord(containerd, id);
  const places = (): string[] => [before.shim, before.qemu].map((mark) => cgroupOf(pidOf(mark)));
  const there = [containerd.cgroup, `/kubepods.slice/${podSlice('1')}/${scope}/vm`];
  t.same(places(), there, 'the shim is in the service, QEMU is in its scope');

  containerd.restart();
  t.not(containerd.pid, pid, 'another containerd');
  t.same(places(), there, 'beside the same shim and the same QEMU');
  t.strictSame(vmRecord(containerd, id), before);
  t.match((await containerd.ctr('tasks', 'ls')).stdout, /^vm1 +\d+ +RUNNING$/m);
  t.match(systemctl('show', scope, '--property=ActiveState'), 'ActiveState=active');

  await untilFile(console, new RegExp(`line ${LINES}\\r?\\n`));
  const said = [...readFileSync(console, 'latin1').matchAll(/line (\d+)\r?\n/g)].map(([, n]) => Number(n));
  t.strictSame(
    said,
    Array.from({ length: LINES }, (_, i) => i + 1),
    'not one line is lost',
  );
  await containerd.ctr('tasks', 'delete', '--force', id);
  t.notMatch((await containerd.ctr('tasks', 'ls')).stdout, /^vm1 /m, 'the new containerd can end it');
  await containerd.ctr('containers', 'rm', id);
});
