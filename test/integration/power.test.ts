/** VMs that are switched off and on while their task goes on, by operators and by their guests, through containerd. */
import { existsSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type Containerd, privateContainerd } from '../support/containerd.ts';
import { type CtrRun, ctrRun } from '../support/ctr-run.ts';
import { untilFile } from '../support/until-file.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const READY = 'vmguest: ready';

interface Status {
  readonly state: string;
  readonly qemuPid: number;
  readonly powerState: string;
  readonly powerReason: string;
  readonly power: { readonly id: string; readonly phase: string; readonly message: string } | null;
}

async function status(containerd: Containerd, id: string): Promise<Status> {
  return JSON.parse((await containerd.vmctl('status', id, '--json')).stdout) as Status;
}

/** What `ctr tasks ls` shows. */
async function task(containerd: Containerd, id: string): Promise<{ pid: number; state: string | undefined }> {
  const { stdout } = await containerd.ctr('tasks', 'ls');
  const row = new RegExp(`^${id} +(\\d+) +(\\w+)$`, 'm').exec(stdout);
  return { pid: Number(row?.[1]), state: row?.[2] };
}

/** What becomes of a `vmctl` that fails. */
const refused = (all: RegExp): { name: string; exitCode: number; all: RegExp } => ({
  name: 'ExecaError',
  exitCode: 1,
  all,
});

/** The next match in what the guest says from now on. */
function next({ console }: CtrRun): (pattern: string | RegExp) => Promise<RegExpExecArray> {
  const from = console.text.length;
  return (pattern) => console.until(pattern, from);
}

/** Bytes charged to the VM's cgroup. */
async function memoryOf(containerd: Containerd, id: string): Promise<number> {
  const { stdout } = await containerd.ctr('tasks', 'metrics', '--format', 'json', id);
  const found = /"usage"\s*:\s*\{[^}]*"usage"\s*:\s*(\d+)/.exec(stdout) ?? /"usage"\s*:\s*(\d+)/.exec(stdout);
  return Number(found?.[1]);
}

/** Types a command whose answer differs from it. */
async function ask(run: CtrRun, line: string, answer: string | RegExp): Promise<RegExpExecArray> {
  const until = next(run);
  run.type(line);
  return await until(answer);
}

void t.test('an operator switches a VM', async (t) => {
  const containerd = await privateContainerd(t);
  const run = await ctrRun(containerd, 'vm');
  await run.console.until(READY);
  const qemu = pidOf(vmRecord(containerd, 'vm').qemu);
  const shim = pidOf(vmRecord(containerd, 'vm').shim);
  t.match(await status(containerd, 'vm'), { powerState: 'on', powerReason: '', power: null });

  await t.test('off: QEMU and its memory are gone, the task runs', async (t) => {
    await ask(run, 'printf kept | dd of=/dev/vda bs=512 seek=140000 conv=notrunc,fsync; echo w$((1))', 'w1');
    const before = await memoryOf(containerd, 'vm');
    const until = next(run);
    await containerd.vmctl('stop', 'vm', '--id', 'off-1');
    await until('vmguest: power button');
    t.notOk(existsSync(`/proc/${qemu}`), 'QEMU has ended');
    const after = await memoryOf(containerd, 'vm');
    t.comment(`memory of the cgroup: ${before} bytes, ${after} while off`);
    t.ok(after < before / 3, 'its memory is free');
    t.same(await task(containerd, 'vm'), { pid: shim, state: 'RUNNING' });
    t.match(await status(containerd, 'vm'), {
      state: 'off',
      qemuPid: 0,
      powerState: 'off',
      powerReason: 'an operator stopped it',
      power: { id: 'off-1', action: 'stop', phase: 'done' },
    });
    t.match(
      (await containerd.vmctl('status', 'vm')).stdout,
      /^power +off: an operator stopped it; last request: stop done$/m,
    );
    t.match((await containerd.vmctl('list')).stdout, /^default +vm +vm +off /m);
    t.match((await containerd.ctr('tasks', 'ps', 'vm')).stdout, new RegExp(`^${shim} `, 'm'));
    t.match(vmRecord(containerd, 'vm'), { qemu: undefined, exit: undefined, power: { state: { t: 'off' } } });
  });

  await t.test('while off: what makes no sense is refused, what is so already is done', async (t) => {
    for (const action of ['reset', 'reboot', 'pause', 'resume', 'nmi'])
      await t.rejects(containerd.vmctl(action, 'vm'), refused(/the VM is off: an operator/));
    t.match((await containerd.vmctl('stop', 'vm')).stdout, /was off already/);
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGWINCH', 'vm');
    t.equal((await status(containerd, 'vm')).powerState, 'off');
  });

  await t.test('on: the same disk, console, names and cgroup, another QEMU', async (t) => {
    const until = next(run);
    const { cgroup, key } = vmRecord(containerd, 'vm');
    await containerd.vmctl('start', 'vm', '--id', 'on-1');
    await until(READY);
    const [, text] = await ask(
      run,
      'dd if=/dev/vda bs=512 skip=140000 count=1 2>/dev/null | head -c 4; echo " r$((1))"',
      /(\w{4}) r1/,
    );
    t.equal(text, 'kept');
    t.match(vmRecord(containerd, 'vm'), { cgroup, key, power: { state: { t: 'on' } } });
    const now = pidOf(vmRecord(containerd, 'vm').qemu);
    t.not(now, qemu);
    t.same(await task(containerd, 'vm'), { pid: now, state: 'RUNNING' });
    t.match((await containerd.vmctl('start', 'vm')).stdout, /was on already/);
  });

  await t.test('a request is done once, however often its id is asked', async (t) => {
    const { qemu } = vmRecord(containerd, 'vm');
    t.equal((await containerd.vmctl('stop', 'vm', '--id', 'off-1', '--no-wait')).stdout, 'off-1 done');
    t.same(vmRecord(containerd, 'vm').qemu, qemu);
    await t.rejects(containerd.vmctl('start', 'vm', '--id', 'off-1'), refused(/was a stop before/));
  });

  await t.test('reset and reboot', async (t) => {
    const { qemu } = vmRecord(containerd, 'vm');
    let until = next(run);
    await containerd.vmctl('reset', 'vm');
    await until(READY);
    t.same(vmRecord(containerd, 'vm').qemu, qemu, 'a reset is in place');
    until = next(run);
    await containerd.vmctl('reboot', 'vm');
    await until('vmguest: power button');
    await until(new RegExp(`power button[^]*${READY}`));
    t.notSame(vmRecord(containerd, 'vm').qemu, qemu, 'a reboot starts a new QEMU');
    t.equal((await task(containerd, 'vm')).state, 'RUNNING');
  });

  await t.test('pause, resume, NMI', async (t) => {
    await containerd.vmctl('pause', 'vm');
    t.match(await status(containerd, 'vm'), { powerState: 'paused' });
    t.equal((await task(containerd, 'vm')).state, 'RUNNING', 'an operator’s pause is none of containerd’s');
    await t.rejects(containerd.vmctl('nmi', 'vm'), refused(/the VM is paused, it must be running/));
    t.match((await containerd.vmctl('start', 'vm')).stdout, /is paused; "resume"/);
    await containerd.vmctl('resume', 'vm');
    t.match(await status(containerd, 'vm'), { powerState: 'on' });
    await ask(run, 'dmesg -n 8; echo d$((1))', 'd1');
    const until = next(run);
    await containerd.vmctl('nmi', 'vm');
    await until(/NMI/);
  });

  await t.test(
    'a guest that does not obey is ended when its time is over, or at once by force',
    async (t) => {
      await ask(run, 'hang', 'deaf to the power button');
      const slow = ['stop', 'vm', '--grace', '86000', '--id', 'slow'];
      t.equal((await containerd.vmctl(...slow, '--no-wait')).stdout, 'slow running');
      t.match(await status(containerd, 'vm'), { powerState: 'stopping' });
      await t.rejects(
        containerd.vmctl('reset', 'vm'),
        refused(/cannot reset: the stop of request "slow" is under way/),
      );
      const asked = containerd.vmctl(...slow);
      await containerd.vmctl('stop', 'vm', '--force');
      await asked;
      t.match(await status(containerd, 'vm'), { powerState: 'off' });
      const until = next(run);
      await containerd.vmctl('start', 'vm');
      await until(READY);
      await ask(run, 'hang', 'deaf to the power button');
      await containerd.vmctl('stop', 'vm', '--grace', '1');
      t.match(await status(containerd, 'vm'), { powerState: 'off' });
    },
  );

  await t.test('containerd is killed and comes back while the VM is off', async (t) => {
    await containerd.kill();
    await containerd.start();
    t.same(await task(containerd, 'vm'), { pid: shim, state: 'RUNNING' });
    await containerd.vmctl('start', 'vm');
    t.equal((await task(containerd, 'vm')).pid, pidOf(vmRecord(containerd, 'vm').qemu));
    await containerd.vmctl('stop', 'vm', '--force');
  });

  await t.test('a signal ends the task of a VM that is off', async () => {
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGTERM', 'vm');
    await containerd.ctr('tasks', 'delete', 'vm').catch(() => undefined);
    await containerd.ctr('containers', 'rm', 'vm');
    run.process.kill('SIGKILL');
    await run.exited;
    await containerd.logged(/the VM was off when its task was to end|VM ended/);
  });
});

void t.test('guests switch themselves', async (t) => {
  const containerd = await privateContainerd(t);
  const guest = (id: string, annotations: Readonly<Record<string, string>>): Promise<CtrRun> =>
    ctrRun(containerd, id, { annotations });

  await t.test('power-off with "hold": the VM is off until somebody starts it', async (t) => {
    const run = await guest('hold', { 'vmshim.io/on-poweroff': 'hold' });
    await run.console.until(READY);
    run.type('poweroff');
    await offBecause(t, containerd, 'hold', /the guest powered itself off/);
    const until = next(run);
    await containerd.vmctl('start', 'hold');
    await until(READY);
    // Whatever the policy, what containerd ends ends.
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGTERM', 'hold');
    t.equal(await run.exited, 0);
  });

  await t.test('a panic with "restart": at once, then later and later', async (t) => {
    const run = await guest('loop', { 'vmshim.io/on-crash': 'restart' });
    await run.console.until(READY);
    const until = next(run);
    run.type('panic');
    await until(new RegExp(`panic[^]*${READY}`));
    run.type('panic');
    await offBecause(t, containerd, 'loop', /the guest kernel panicked, 2 times .* boots again at 20/);
    t.equal((await task(containerd, 'loop')).state, 'RUNNING');
    const again = next(run);
    await containerd.vmctl('start', 'loop');
    await again(READY);
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'loop');
    t.equal(await run.exited, 137);
  });

  await t.test('a reboot with "hold", and a reset that is none of the guest’s', async (t) => {
    const run = await guest('reboots', { 'vmshim.io/on-reboot': 'hold' });
    await run.console.until(READY);
    let until = next(run);
    await containerd.vmctl('reset', 'reboots');
    await until(READY);
    run.type('reboot');
    await offBecause(t, containerd, 'reboots', /the guest rebooted/);
    until = next(run);
    await containerd.vmctl('start', 'reboots');
    await until('vmguest: booting');
    await containerd.vmctl('stop', 'reboots', '--force');
    await containerd.ctr('tasks', 'kill', '--signal', 'SIGTERM', 'reboots');
    t.equal(await run.exited, 0, 'a VM that is off has ended well');
  });
});

/** Resolves when the VM is off for that reason; its shim tells when, in containerd's log. */
async function offBecause(t: Test, containerd: Containerd, id: string, why: RegExp): Promise<void> {
  await untilFile(containerd.logFile, new RegExp(`the VM is off: .*id=${id}`));
  t.match(await status(containerd, id), { powerState: 'off', powerReason: why });
}
