import { constants, existsSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { environmentEntries } from './environment-entries.ts';

const host = new LinuxHost();

void t.test('a command runs with its input, in its directory, with nothing of our environment', async (t) => {
  const dir = tempDir(t);
  t.strictSame(await host.exec('cat', [], { input: 'ä\n' }), { status: 0, stdout: 'ä\n', stderr: '' });
  t.equal((await host.exec('pwd', [], { cwd: dir })).stdout, `${dir}\n`);
  t.equal((await host.exec('sh', ['-c', 'echo out; echo err >&2'])).stderr, 'err\n');
  const { stdout } = await host.exec('cat', ['/proc/self/environ']);
  t.strictSame(environmentEntries(stdout), ['LC_ALL=C', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin']);
});

void t.test('descriptors of ours are the command’s 3 and 4', async (t) => {
  const dir = tempDir(t);
  const open = (name: string) => host.open(join(dir, name), constants.O_RDWR | constants.O_CREAT);
  using a = open('a');
  using b = open('b');
  await host.exec('sh', ['-c', 'echo three >&3; echo four >&4'], { fds: [a.fd, b.fd] });
  t.equal(host.readText(join(dir, 'a')), 'three\n');
  t.equal(host.readText(join(dir, 'b')), 'four\n');
});

void t.test('large input to a command that does not read it is no fault', async (t) => {
  const ended = await host.exec('true', [], { input: Buffer.alloc(1 << 20) });
  t.strictSame(ended, { status: 0, stdout: '', stderr: '' });
});

void t.test('variables and the status of a command, for a caller who wants them', async (t) => {
  const env = { CNI_COMMAND: 'ADD', LC_ALL: 'C.UTF-8' };
  const { stdout } = await host.exec('cat', ['/proc/self/environ'], { env });
  t.strictSame(environmentEntries(stdout), [
    'CNI_COMMAND=ADD',
    'LC_ALL=C.UTF-8',
    'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
  ]);
  const anyStatus = true;
  t.strictSame(await host.exec('sh', ['-c', 'echo out; echo err >&2; exit 3'], { anyStatus }), {
    status: 3,
    stdout: 'out\n',
    stderr: 'err\n',
  });
  await t.rejects(host.exec('sh', ['-c', 'kill -9 $$'], { anyStatus }), { message: /ended with SIGKILL$/ });
  await t.rejects(host.exec('/no/such/plugin', [], { anyStatus }), {
    kind: 'NotFound',
    message: /^\/no\/such\/plugin, or .* does not exist/,
  });
});

void t.test('a failure ends with what the command said last', async (t) => {
  await t.rejects(host.exec('sh', ['-c', 'echo start >&2; echo "Error: no such disk" >&2; exit 3']), {
    name: 'VmError',
    kind: 'Internal',
    message: /^sh -c .* ended with status 3: start; Error: no such disk$/,
  });
  await t.rejects(host.exec('sh', ['-c', 'kill -9 $$']), {
    kind: 'Internal',
    message: /ended with SIGKILL$/,
  });
});

void t.test('a command or directory that is missing is NotFound', async (t) => {
  await t.rejects(host.exec('no-such-command', []), {
    kind: 'NotFound',
    message: 'the command no-such-command is not in /usr/sbin:/usr/bin:/sbin:/bin; install it',
  });
  await t.rejects(host.exec('true', [], { cwd: '/nonexistent' }), {
    kind: 'NotFound',
    message: /run true in \/nonexistent/,
  });
  const file = join(tempDir(t), 'not-executable');
  writeFileSync(file, '', { mode: 0o600 });
  await t.rejects(host.exec(file, []), { name: 'VmError', kind: 'PermissionDenied' });
});

void t.test('output is bounded', async (t) => {
  t.equal((await host.exec('head', ['-c', '1000', '/dev/zero'], { maxOutput: 1000 })).stdout.length, 1000);
  await t.rejects(host.exec('cat', ['/dev/zero'], { maxOutput: 1000 }), {
    kind: 'ResourceExhausted',
    message: 'cat /dev/zero said more than 1000 bytes',
  });
});

void t.test('an aborted command has ended when the call returns', async (t) => {
  const dir = tempDir(t);
  const pidFile = join(dir, 'pid');
  const controller = new AbortController();
  const watcher = watch(dir);
  // The grandchild holds the pipes: they must not hold us.
  const script = `sleep 1000 & echo $$ $! > ${pidFile}.new; mv ${pidFile}.new ${pidFile}; wait`;
  const running = host.exec('sh', ['-c', script], { signal: controller.signal });
  while (!existsSync(pidFile)) await once(watcher, 'change');
  watcher.close();
  const [shell, sleeper] = host.readText(pidFile).trim().split(' ').map(Number);
  t.teardown(() => process.kill(sleeper!, 'SIGKILL'));
  controller.abort();
  await t.rejects(running, { kind: 'Canceled', message: /^sh -c .*the call was canceled/s });
  t.throws(() => process.kill(shell!, 0), { code: 'ESRCH' });

  await t.rejects(host.exec('true', [], { signal: controller.signal }), {
    name: 'VmError',
    kind: 'Canceled',
  });
  await t.rejects(host.exec('sleep', ['1000'], { signal: AbortSignal.timeout(1) }), {
    name: 'VmError',
    kind: 'DeadlineExceeded',
  });
});
