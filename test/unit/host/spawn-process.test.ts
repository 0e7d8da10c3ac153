import { execFileSync, spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { buildAddon } from '../../../scripts/build-addon.ts';
import type { ProcessExit, SpawnedProcess, SpawnPlan } from '../../../src/host/host.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { loadNative } from '../../../src/host/native.ts';
import { tempDir, type Teardown } from '../../support/temp-dir.ts';
import { environmentEntries } from './environment-entries.ts';

buildAddon();
const native = loadNative();
const host = new LinuxHost();

// Static, so that it never has a library open while we look at its descriptors.
const cat: SpawnPlan = {
  file: '/bin/busybox',
  args: ['cat'],
  env: { A: '1', 'WITH SPACE': 'b=c' },
  cwd: '/',
  uid: 65534,
  gid: 65533,
  fds: [],
  network: 'empty',
};

void t.test('the child has exactly what the plan says, and we keep our network', async (t) => {
  const dir = tempDir(t);
  chmodSync(dir, 0o755);
  const input = fifo(t, join(dir, 'in'));
  const output = fifo(t, join(dir, 'out'));
  const file = fileFd(t, join(dir, 'file'));
  const leak = fileFd(t, join(dir, 'leak'));
  native.setCloexec(leak, false);
  const before = readlinkSync('/proc/thread-self/ns/net');

  const plan = { ...cat, cwd: dir, fds: [input, output, null, null, file, input, file] };
  const child = host.spawn(plan);
  t.equal(readlinkSync('/proc/thread-self/ns/net'), before);
  // cat answers: it has been started and opens nothing more.
  const socket = new Socket({ fd: openSync(join(dir, 'out'), constants.O_RDWR | constants.O_NONBLOCK) });
  const answer = once(socket, 'data');
  writeSync(input, 'ping');
  t.equal(String((await answer)[0]), 'ping');
  socket.destroy();

  const proc = `/proc/${child.pid}`;
  const targets = readdirSync(`${proc}/fd`)
    .sort()
    .map((fd) => `${fd} ${readlinkSync(`${proc}/fd/${fd}`)}`);
  t.strictSame(targets, [
    `0 ${dir}/in`,
    `1 ${dir}/out`,
    '2 /dev/null',
    '3 /dev/null',
    `4 ${dir}/file`,
    `5 ${dir}/in`,
    `6 ${dir}/file`,
  ]);

  const environ = readFileSync(`${proc}/environ`, 'utf8');
  t.strictSame(environmentEntries(environ), ['A=1', 'WITH SPACE=b=c']);
  t.equal(readlinkSync(`${proc}/cwd`), dir);
  const status = readFileSync(`${proc}/status`, 'utf8');
  t.match(status, /^Uid:\t65534\t65534\t65534\t65534$/m);
  t.match(status, /^Gid:\t65533\t65533\t65533\t65533$/m);
  t.match(status, /^Groups:\s*$/m, 'none of our supplementary groups');
  t.match(status, /^CapEff:\t0+$/m);
  t.match(status, /^SigIgn:\t0+$/m);
  t.match(status, /^SigBlk:\t0+$/m);
  const [, , , session] = readFileSync(`${proc}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  t.equal(Number(session), child.pid, 'a session of its own');

  t.not(readlinkSync(`${proc}/ns/net`), before);
  const links = readFileSync(`${proc}/net/dev`, 'utf8').split('\n').slice(2, -1);
  t.strictSame(
    links.map((line) => line.split(':')[0]!.trim()),
    ['lo'],
  );

  process.kill(child.pid, 'SIGKILL');
  t.strictSame(await ended(child), { kind: 'signaled', signal: 9 });
});

void t.test('network "inherit" leaves the child in ours', async (t) => {
  const output = fileFd(t, join(tempDir(t), 'out'));
  const args = ['readlink', '/proc/self/ns/net'];
  const child = host.spawn({ ...cat, args, fds: [null, output], uid: 0, gid: 0, network: 'inherit' });
  t.strictSame(await ended(child), { kind: 'exited', code: 0 });
  t.equal(host.readBytes(output, 0, 100).toString().trim(), readlinkSync('/proc/self/ns/net'));
});

void t.test('a network by its path is where the child is, and we stay in ours', async (t) => {
  const before = readlinkSync('/proc/thread-self/ns/net');
  const holder = host.spawn({ ...cat, args: ['sleep', '1000'] });
  const path = `/proc/${holder.pid}/ns/net`;
  const output = fileFd(t, join(tempDir(t), 'out'));
  const args = ['readlink', '/proc/self/ns/net'];
  const child = host.spawn({ ...cat, args, fds: [null, output], network: { path } });
  t.equal(readlinkSync('/proc/thread-self/ns/net'), before);
  t.strictSame(await ended(child), { kind: 'exited', code: 0 });
  t.equal(host.readBytes(output, 0, 100).toString().trim(), readlinkSync(path));
  process.kill(holder.pid, 'SIGKILL');
  await ended(holder);
  t.throws(() => host.spawn({ ...cat, network: { path: '/nonexistent/ns' } }), {
    message: /enter|open \/nonexistent/,
  });
});

void t.test('the exit status is the child’s', async (t) => {
  t.strictSame(await ended(host.spawn({ ...cat, args: ['sh', '-c', 'exit 7'] })), {
    kind: 'exited',
    code: 7,
  });
  t.strictSame(await ended(host.spawn({ ...cat, args: ['sh', '-c', 'kill -SEGV $$'] })), {
    kind: 'signaled',
    signal: 11,
  });
});

void t.test('what cannot be started throws at once and leaves us in our network', (t) => {
  const dir = tempDir(t);
  chmodSync(dir, 0o755);
  const file = join(dir, 'file');
  writeFileSync(file, 'no program', { mode: 0o644 });
  const before = readlinkSync('/proc/thread-self/ns/net');
  const missing = join(dir, 'missing');
  t.throws(() => host.spawn({ ...cat, file: missing }), {
    kind: 'NotFound',
    message: `cannot start ${missing} as uid 65534: it does not exist (ENOENT)`,
  });
  t.throws(() => host.spawn({ ...cat, file, uid: 0 }), { kind: 'PermissionDenied', message: /EACCES/ });
  t.throws(() => host.spawn({ ...cat, cwd: missing }), {
    kind: 'NotFound',
    message: `cannot start /bin/busybox: its directory ${missing} does not exist`,
  });
  t.throws(() => host.spawn({ ...cat, cwd: file }), { kind: 'NotFound', message: /ENOTDIR/ });
  t.throws(() => host.spawn({ ...cat, file: 'busybox' }), { name: 'VmError', kind: 'InvalidArgument' });
  t.throws(() => host.spawn({ ...cat, fds: [9999] }), { name: 'VmError', message: /start \/bin\/busybox/ });
  t.equal(readlinkSync('/proc/thread-self/ns/net'), before);
  // The 'error' events that Node still owes for these come now; unhandled ones would end this process.
  setImmediate(() => t.end());
});

void t.test('a process that cannot get back to its own network stops and says why', (t) => {
  adoptOrphans(t);
  const setns = "setns: () => { throw Object.assign(new Error('no'), { code: 'EPERM', syscall: 'setns' }) }";
  // In a directory of its own: an aborted process may leave a core there.
  const result = runScript(['true'], setns, tempDir(t));
  t.equal(native.waitpid(-1, 0)?.status, 0, 'the child had been started');
  t.equal(result.signal, 'SIGABRT');
  t.match(result.stderr, /^vmshim: cannot return to our own network namespace, so we stop here: .*EPERM/m);
  t.end();
});

void t.test('a child does not keep us alive, nor do we end it', (t) => {
  adoptOrphans(t);
  const pid = Number(runScript(['sleep', '1000']).stdout);
  t.match(readFileSync(`/proc/${pid}/cmdline`, 'utf8'), 'sleep');
  process.kill(pid, 'SIGKILL');
  t.strictSame(native.waitpid(pid, 0), { pid, status: 9 });
  t.end();
});

/** Runs a process of its own that spawns busybox with `args`, and ends. */
function runScript(args: readonly string[], override = '', cwd = '/'): SpawnSyncReturns<string> {
  const source = join(import.meta.dirname, '../../../src/host');
  const script = `
    import { loadNative } from '${source}/native.ts';
    import { LinuxHost } from '${source}/linux-host.ts';
    const host = new LinuxHost(() => ({ ...loadNative(), ${override} }));
    console.log(host.spawn(${JSON.stringify({ ...cat, args })}).pid);`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', cwd });
}

/** What a process under test leaves running comes to us, so that we can reap it. */
function adoptOrphans(t: Teardown): void {
  native.setChildSubreaper(true);
  t.teardown(() => native.setChildSubreaper(false));
}

/** Waits for the child with something else that keeps the event loop alive, as a shim's socket does. */
async function ended(child: SpawnedProcess): Promise<ProcessExit> {
  const alive = setInterval(() => undefined, 2 ** 30);
  try {
    return await child.exited;
  } finally {
    clearInterval(alive);
  }
}

/** A FIFO open for reading and writing, so that neither end waits for the other. */
function fifo(t: Teardown, path: string): number {
  execFileSync('mkfifo', ['-m', '666', path]);
  return closedAtEnd(t, openSync(path, constants.O_RDWR));
}

function fileFd(t: Teardown, path: string): number {
  return closedAtEnd(t, openSync(path, constants.O_RDWR | constants.O_CREAT));
}

function closedAtEnd(t: Teardown, fd: number): number {
  t.teardown(() => closeSync(fd));
  return fd;
}
