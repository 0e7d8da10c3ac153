import t from 'tap';
import { privateContainerd } from '../support/containerd.ts';
import { ctrRun } from '../support/ctr-run.ts';

void t.test('ctr run boots a guest, joins its console and returns its end', async (t) => {
  const containerd = await privateContainerd(t);

  await t.test('a kernel boot: power-off is exit status 0', async (t) => {
    const run = await ctrRun(containerd, 'kernel-boot');
    await run.console.until('vmguest: ready');
    run.type('cmdline');
    await run.console.until('console=ttyS0');
    run.type('poweroff');
    t.equal(await run.exited, 0);
  });

  await t.test('a disk boot through its boot loader: a panic is exit status 1', async (t) => {
    const run = await ctrRun(containerd, 'disk-boot', { diskBoot: true });
    await run.console.until('vmguest: ready');
    run.type('panic');
    t.equal(await run.exited, 1);
    await containerd.logged(/the guest kernel panicked/);
  });

  await t.test('SIGTERM presses the power button, and the guest’s exit status is 0', async (t) => {
    const run = await ctrRun(containerd, 'sigterm');
    await run.console.until('vmguest: ready');
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGTERM', 'sigterm');
    await run.console.until('vmguest: power button');
    t.equal(await run.exited, 0);
  });

  await t.test('SIGKILL is exit status 137', async (t) => {
    const run = await ctrRun(containerd, 'sigkill');
    await run.console.until('vmguest: ready');
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'sigkill');
    t.equal(await run.exited, 137);
  });
});
