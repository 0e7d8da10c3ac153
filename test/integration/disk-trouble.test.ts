/**
 * Disks that fail, for real: a file system without space, and a file whose writes end with EIO. What the guest wrote has
 * to be there in the end, byte by byte.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, globSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import t, { type Test } from 'tap';
import { guest } from '../support/guest.ts';
import { type RunningShim, ShimClient } from '../support/shim-client.ts';
import { guestRoot } from '../support/test-bundle.ts';
import { vmctl } from '../support/vm-image.ts';

const RUNNING = 2;
const PAUSED = 4;

/** A small file system that is gone with its test. */
function smallFileSystem(t: Test, path: string, mib: number): void {
  mkdirSync(path, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}M,mode=0711`, 'vmshim-test', path]);
  t.teardown(() => execFileSync('umount', ['-l', path]));
}

/** The next event of that kind. */
function next(shims: ShimClient, id: string, topic: 'paused' | 'resumed'): Promise<unknown> {
  const seen = shims.events.topics(id).filter((name) => name === topic).length;
  return shims.events.until(topic, id, seen + 1);
}

/** An unpacked image with the guest's kernel and disk, and what a container writes, in `directory`. */
async function diskRoot(directory: string): Promise<string> {
  await guestRoot(directory);
  mkdirSync(join(directory, 'disk'));
  copyFileSync((await guest()).qcow2, join(directory, 'disk/disk.qcow2'));
  return directory;
}

function overlayOf(root: string): string {
  const [overlay = ''] = globSync(join(root, '.vmshim-*/root.qcow2'));
  return overlay;
}

function checkImage(overlay: string): string {
  const node = { driver: 'qcow2', file: { driver: 'file', filename: overlay }, backing: null };
  return execFileSync('qemu-img', ['check', `json:${JSON.stringify(node)}`], { encoding: 'utf8' });
}

async function status(shims: ShimClient, shim: RunningShim): Promise<Record<string, unknown>> {
  const env = { VMSHIM_CONFIG: join(shims.directory, 'vmshim.toml') };
  return JSON.parse((await execa(vmctl, ['status', shim.id, '--json'], { env })).stdout) as Record<
    string,
    unknown
  >;
}

void t.test('a full file system: the guest waits, says nothing, and loses nothing', async (t) => {
  const shims = await ShimClient.make(t);
  const small = join(shims.directory, 'small');
  smallFileSystem(t, small, 42);
  const root = await diskRoot(join(small, 'image'));
  // The console's log is on the full file system as well.
  shims.writeConfig('vmshim.toml', '');
  const config = readFileSync(join(shims.directory, 'vmshim.toml'), 'utf8');
  writeFileSync(
    join(shims.directory, 'vmshim.toml'),
    config.replace(`data_dir = "${shims.directory}/data"`, `data_dir = "${small}/data"`),
  );
  const shim = await shims.shim('full', { root, annotations: { 'vmshim.io/guest-data': 'none' } });
  const { id, task } = shim;
  const io = shims.io(id);
  await task.create({ id, bundle: shim.bundle, ...io.request });
  await task.start({ id });
  await io.console.until('vmguest: ready');

  const paused = next(shims, id, 'paused');
  io.type('write-pattern full 16');
  await paused;
  t.match(
    await task.state({ id }),
    { status: RUNNING },
    'kubelet is not told of a pause that nobody asked for',
  );
  const stalled = await status(shims, shim);
  t.match(stalled, { state: 'paused (I/O error: No space left on device)' });
  t.match(
    (stalled['warnings'] as string[]).at(-1),
    /^disk "root" cannot be written: No space left on device/,
  );

  await t.test('a pause of somebody’s own comes on top', async (t) => {
    await task.pause({ id });
    t.match(await task.state({ id }), { status: PAUSED });
    t.match(await status(shims, shim), { state: 'paused' });
    await task.resume({ id });
  });

  await t.test('space is made, the guest goes on by itself', async (t) => {
    const resumed = next(shims, id, 'resumed');
    const seen = io.console.text.length;
    execFileSync('mount', ['-o', 'remount,size=400M', small]);
    await io.console.until('pattern written', seen);
    await resumed;
    t.match(await status(shims, shim), { state: 'running', warnings: [] });
    io.type('verify-pattern full 16');
    await io.console.until('pattern ok', seen);
    t.notMatch(io.console.text, /I\/O error|EXT4-fs error|Buffer I\/O/i, 'the guest never learned of it');
  });

  await t.test('it is killed while it waits, and what it had written before is there', async (t) => {
    execFileSync('mount', ['-o', `remount,size=${Math.ceil(usedMib(small)) + 1}M`, small]);
    const again = next(shims, id, 'paused');
    io.type('write-pattern more 8 /dev/vda 136');
    await again;
    await task.kill({ id, signal: 15 });
    t.match(await task.state({ id }), { status: RUNNING }, 'the button waits with the guest');
    await task.kill({ id, signal: 9 });
    t.equal((await task.wait({ id })).exitStatus, 137);
    await task.delete({ id });
    await shims.end(shim);
    t.match(checkImage(overlayOf(root)), /No errors were found/);
  });
  execFileSync('mount', ['-o', 'remount,size=400M', small]);

  const second = await shims.shim('full', { root, annotations: { 'vmshim.io/guest-data': 'none' } });
  const secondIo = shims.io('again');
  await second.task.create({ id, bundle: second.bundle, ...secondIo.request });
  await second.task.start({ id });
  await secondIo.console.until('vmguest: ready');
  secondIo.type('verify-pattern full 16');
  await secondIo.console.until('pattern ok');
  await shims.remove(second);
});

function usedMib(path: string): number {
  const text = execFileSync('df', ['--output=used', '-B1', path], { encoding: 'utf8' });
  return Number(text.split('\n')[1]) / 2 ** 20;
}

/** `file`, on a FUSE file system over itself that fails writes when it is told to. */
async function breakableFile(t: Test, file: string) {
  const socket = `${file}.qmp`;
  const node = (json: object): string[] => ['--blockdev', JSON.stringify(json)];
  const failing = [{ event: 'none', iotype: 'write', errno: 5 }];
  const daemon = spawn(
    'qemu-storage-daemon',
    [
      ...node({ driver: 'file', 'node-name': 'file', filename: file, locking: 'off' }),
      ...node({ driver: 'blkdebug', 'node-name': 'broken', image: 'file', 'inject-error': failing }),
      ...node({ driver: 'raw', 'node-name': 'top', file: 'file' }),
      '--export',
      JSON.stringify({
        type: 'fuse',
        id: 'e',
        'node-name': 'top',
        mountpoint: file,
        writable: true,
        growable: true,
      }),
      '--chardev',
      `socket,id=m,path=${socket},server=on,wait=off`,
      '--monitor',
      'chardev=m',
    ],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const ended = once(daemon, 'exit');
  const monitor = await connected(socket);
  const lines = createInterface({ input: monitor })[Symbol.asyncIterator]();
  const execute = async (command: string, args: object = {}): Promise<void> => {
    monitor.write(JSON.stringify({ execute: command, arguments: args }));
    for (;;) {
      const line = await lines.next();
      if (line.done === true) throw new Error(`qemu-storage-daemon ended at ${command}`);
      if (line.value.includes('"error"')) throw new Error(`${command}: ${line.value}`);
      if (line.value.includes('"return"')) return;
    }
  };
  await execute('qmp_capabilities');
  t.teardown(async () => {
    monitor.destroy();
    daemon.kill('SIGTERM');
    await ended;
  });
  const reopen = (over: string): Promise<void> =>
    execute('blockdev-reopen', { options: [{ driver: 'raw', 'node-name': 'top', file: over }] });
  return { breaks: () => reopen('broken'), works: () => reopen('file') };
}

/** The daemon listens once everything before it on its command line is there. */
async function connected(path: string) {
  for (;;) {
    const socket = connect(path);
    const came = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    if (came) return socket;
  }
}

void t.test('a file whose writes fail with EIO', async (t) => {
  const shims = await ShimClient.make(t);
  const root = await diskRoot(join(shims.directory, 'disk-image'));
  const annotations = { 'vmshim.io/guest-data': 'none' };
  const made = await shims.shim('eio', { root, annotations });
  await made.task.create({ id: 'eio', bundle: made.bundle });
  await shims.remove(made);
  t.ok(statSync(overlayOf(root)).isFile());

  const file = await breakableFile(t, overlayOf(root));
  const shim = await shims.shim('eio', { root, annotations });
  const { id, task } = shim;
  const io = shims.io(id);
  await task.create({ id, bundle: shim.bundle, ...io.request });
  await task.start({ id });
  await io.console.until('vmguest: ready');
  io.type('write-pattern before 4');
  await io.console.until('pattern written');

  await file.breaks();
  const paused = next(shims, id, 'paused');
  io.type('write-pattern during 8 /dev/vda 80');
  await paused;
  t.match(await status(shims, shim), { state: 'paused (I/O error: Input/output error)' });
  await file.works();
  const seen = io.console.text.length;
  const env = { VMSHIM_CONFIG: join(shims.directory, 'vmshim.toml') };
  await execa(vmctl, ['resume', id], { env });
  await io.console.until('pattern written', seen);
  io.type('verify-pattern during 8 /dev/vda 80');
  await io.console.until('pattern ok', seen);
  await shims.remove(shim);
});
