import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { buildAddon } from '../../../scripts/build-addon.ts';
import { killIdentity } from '../../../src/host/kill-identity.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { loadNative, type Native } from '../../../src/host/native.ts';
import { bootId, isAlive, type ProcessIdentity, readIdentity } from '../../../src/host/process-identity.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { startSleeper } from './sleeper.ts';

buildAddon();
const native = loadNative();
const host = new LinuxHost();

function identify(pid: number): ProcessIdentity {
  return { pid, startTime: readIdentity(host, pid)!.startTime, bootId: bootId(host) };
}

void t.test('the start time of a process is read from /proc whatever its name is', (t) => {
  const dir = tempDir(t);
  const evil = join(dir, 'a) Z 1 (b');
  symlinkSync('/bin/sleep', evil);
  const sleeper = startSleeper(t, evil);
  const status = readIdentity(host, sleeper.pid)!;
  t.match(readFileSync(`/proc/${sleeper.pid}/stat`, 'utf8'), '(a) Z 1 (b)');
  t.equal(status.pid, sleeper.pid);
  t.match(status.state, /^[RSD]$/);
  const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 100;
  t.ok(status.startTime <= uptime + 1 && status.startTime > uptime - 6000, 'in clock ticks since boot');
  t.ok(status.startTime >= readIdentity(host, process.pid)!.startTime);
  t.equal(readIdentity(host, 2 ** 30), undefined);
  t.end();
});

void t.test('a stat file that is not one is an error, not a process', (t) => {
  const proc = tempDir(t);
  mkdirSync(join(proc, '5'));
  writeFileSync(join(proc, '5/stat'), '5 (x) S');
  t.throws(() => readIdentity(host, 5, proc), { kind: 'Internal', message: /5\/stat/ });
  t.end();
});

void t.test('alive is that process, this boot, and not a zombie', async (t) => {
  const sleeper = startSleeper(t);
  const identity = identify(sleeper.pid);
  t.match(identity.bootId, /^[0-9a-f-]{36}$/);
  t.equal(isAlive(host, identity), true);
  t.equal(isAlive(host, { ...identity, startTime: identity.startTime - 1 }), false);
  t.equal(isAlive(host, { ...identity, bootId: 'another boot' }), false);

  process.kill(sleeper.pid, 'SIGKILL');
  // Node has not had its turn yet, so the kernel keeps it for us.
  while (readIdentity(host, sleeper.pid)?.state !== 'Z');
  t.equal(isAlive(host, identity), false);
  await sleeper.exited;
  t.equal(readIdentity(host, sleeper.pid), undefined);
  t.equal(isAlive(host, identity), false);
});

void t.test(
  'a process whose first thread has ended lives as long as another one, and holds its files',
  async (t) => {
    // exit(2), unlike exit_group(2), ends the calling thread alone.
    const script = `
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall(60, 0)`;
    const process = spawn('python3', ['-c', script], { stdio: 'ignore' });
    const exited = once(process, 'exit');
    t.teardown(() => process.kill('SIGKILL'));
    const pid = process.pid ?? 0;
    while (readIdentity(host, pid)?.state !== 'Z') await delay(5);
    const identity = identify(pid);
    t.equal(isAlive(host, identity), true);
    process.kill('SIGKILL');
    await exited;
    t.equal(isAlive(host, identity), false);
  },
);

void t.test('exactly that process is killed', async (t) => {
  const sleeper = startSleeper(t);
  const identity = identify(sleeper.pid);
  const sent: number[] = [];
  const watched: Native = { ...native, pidfdSendSignal: (_, signal) => void sent.push(signal) };
  t.equal(killIdentity(host, watched, { ...identity, startTime: identity.startTime - 1 }, 9), false);
  t.equal(killIdentity(host, watched, { ...identity, bootId: 'another boot' }, 9), false);
  t.strictSame(sent, [], 'a process that only has the same pid gets no signal');

  t.equal(killIdentity(host, native, identity, 0), true);
  t.equal(killIdentity(host, native, identity, 15), true);
  t.equal(await sleeper.exited, 'SIGTERM');
  t.equal(killIdentity(host, native, identity, 15), false);
  t.throws(() => killIdentity(host, native, identify(process.pid), 999), {
    kind: 'Internal',
    message: /signal 999/,
  });
});
