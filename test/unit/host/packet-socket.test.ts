import { spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { buildAddon } from '../../../scripts/build-addon.ts';
import { loadNative, type Native } from '../../../src/host/native.ts';
import { openPacketSocket, type PacketSocket } from '../../../src/host/packet-socket.ts';
import { assembleBpf } from '../../../src/net/dhcp/bpf-program.ts';
import { tempDir, type Teardown } from '../../support/temp-dir.ts';
import { testNetns, type TestNetns } from '../../support/test-netns.ts';

buildAddon();
const native = loadNative();
const source = join(import.meta.dirname, '../../../src');

/** Local experimental EtherType (IEEE 802): nobody but these tests speaks it. */
const OURS = assembleBpf([
  { load: 'half', at: 12 },
  { ifEqual: 0x88b5, else: 'drop' },
  { return: 60 },
  { label: 'drop' },
  { return: 0 },
]);
const NOTHING = assembleBpf([{ return: 0 }]);
const ENOUGH = { frames: 1000, windowMs: 1000 };

/** Two namespaces with a link between them; each end is called `veth`. */
function link(t: Teardown): { near: TestNetns; far: TestNetns } {
  const [near, far] = [testNetns(t), testNetns(t)];
  near.exec('ip', 'link', 'add', 'veth', 'type', 'veth', 'peer', 'name', 'veth', 'netns', far.name);
  for (const end of [near, far]) end.exec('ip', 'link', 'set', 'veth', 'up');
  return { near, far };
}

function frame(text: string): Buffer {
  return Buffer.concat([Buffer.from('ffffffffffff02000000000188b5', 'hex'), Buffer.from(text)], 80);
}

interface Receiver {
  readonly socket: PacketSocket;
  readonly received: string[];
  readonly lengths: number[];
  /** Resolves when that text has come. */
  readonly until: (text: string) => Promise<void>;
}

function receive(
  t: Teardown,
  netns: string,
  options: Partial<Parameters<typeof openPacketSocket>[1]> = {},
  calls: Native = native,
): Receiver {
  const received: string[] = [];
  const lengths: number[] = [];
  const waiting = new Map<string, () => void>();
  const socket = openPacketSocket(calls, {
    ifName: 'veth',
    netns,
    filter: OURS,
    budget: ENOUGH,
    onFrame: (bytes) => {
      const text = Buffer.from(bytes.subarray(14)).toString().replaceAll('\0', '');
      received.push(text);
      lengths.push(bytes.length);
      waiting.get(text)?.();
    },
    ...options,
  });
  t.teardown(() => socket.close());
  // The socket lets Node end; a test that waits for a frame does not.
  const until = (text: string): Promise<void> =>
    new Promise((resolve) => {
      const alive = setInterval(() => undefined, 60_000);
      waiting.set(text, () => {
        clearInterval(alive);
        resolve();
      });
    });
  return { socket, received, lengths, until };
}

/** Of the event loop. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

function sender(t: Teardown, netns: string): PacketSocket {
  return receive(t, netns, { filter: NOTHING }).socket;
}

void t.test('frames that pass the filter come, in order, cut as it says; our own do not', async (t) => {
  const { near, far } = link(t);
  const { socket, received, lengths, until } = receive(t, near.path);
  const from = sender(t, far.path);
  const last = until('last');
  socket.send(frame('from here'));
  const foreign = frame('another protocol');
  foreign.writeUInt16BE(0x88b6, 12);
  for (const one of [frame('first'), foreign, frame('last')]) t.ok(from.send(one));
  await last;
  t.strictSame(received, ['first', 'last']);
  t.strictSame(lengths, [60, 60]);
});

void t.test('frames go out as they are', async (t) => {
  const { near, far } = link(t);
  const { received, until } = receive(t, far.path);
  const there = until('hello');
  const { socket } = receive(t, near.path);
  t.ok(socket.send(frame('hello')));
  await there;
  t.strictSame(received, ['hello']);
  t.notOk(socket.send(Buffer.alloc(100_000)), 'longer than the link takes');
  socket.close();
  t.notOk(socket.send(frame('closed')));
});

void t.test('a link that goes down and up again is the same to us', async (t) => {
  const { near, far } = link(t);
  const { socket, received, until } = receive(t, near.path, { onError: (error) => t.fail(error.message) });
  const from = sender(t, far.path);
  near.exec('ip', 'link', 'set', 'veth', 'down');
  // The kernel's ENETDOWN is on the socket now; the next turns of the loop read it.
  await turns(10);
  t.notOk(socket.send(frame('down')));
  near.exec('ip', 'link', 'set', 'veth', 'up');
  const back = until('back');
  t.ok(from.send(frame('back')));
  await back;
  t.strictSame(received, ['back']);
});

void t.test('a link that goes away leaves a quiet socket', async (t) => {
  const { near } = link(t);
  let wakeUps = 0;
  const counting: Native = {
    ...native,
    watchReadable: (fd, onReady) =>
      native.watchReadable(fd, (failed) => {
        wakeUps += 1;
        onReady(failed);
      }),
  };
  const { socket } = receive(t, near.path, { onError: (error) => t.fail(error.message) }, counting);
  near.exec('ip', 'link', 'delete', 'veth');
  await turns(100);
  t.ok(wakeUps <= 2, `${wakeUps} for going down and away`);
  t.notOk(socket.send(frame('gone')));
});

void t.test('a flood is looked at in portions, and the process stays responsive', async (t) => {
  const { near, far } = link(t);
  let floods = 0;
  let paused: (() => void) | undefined;
  const flooded = new Promise<void>((resolve) => (paused = resolve));
  const alive = setInterval(() => undefined, 1000);
  const { received } = receive(t, near.path, {
    budget: { frames: 5, windowMs: 3_600_000 },
    onFlood: () => {
      floods += 1;
      paused?.();
    },
  });
  const from = sender(t, far.path);
  for (let i = 0; i < 3000; i++) from.send(frame(`frame ${i}`));
  await flooded;
  await turns(50);
  clearInterval(alive);
  t.strictSame(received, ['frame 0', 'frame 1', 'frame 2', 'frame 3', 'frame 4']);
  t.equal(floods, 1);
});

void t.test('after a flood frames are looked at again', async (t) => {
  const { near, far } = link(t);
  const { until } = receive(t, near.path, { budget: { frames: 2, windowMs: 50 } });
  const from = sender(t, far.path);
  const seventh = until('frame 6');
  for (let i = 0; i < 7; i++) from.send(frame(`frame ${i}`));
  await seventh;
  t.pass('the kernel kept what we did not look at');
});

void t.test('closing within a callback, twice, and before anything came', async (t) => {
  const { near, far } = link(t);
  const before = readdirSync('/proc/self/fd').length;
  const idle = receive(t, near.path);
  idle.socket.close();
  idle.socket.close();
  let count = 0;
  const one = receive(t, near.path, {
    onFrame: () => {
      count += 1;
      one.socket.close();
    },
  });
  const other = receive(t, near.path);
  const from = sender(t, far.path);
  const last = other.until('last');
  for (const text of ['first', 'last']) from.send(frame(text));
  await last;
  t.equal(count, 1);
  from.close();
  other.socket.close();
  t.equal(readdirSync('/proc/self/fd').length, before);
});

void t.test('what cannot be opened is said by name', (t) => {
  const { near } = link(t);
  const open = (ifName: string, netns: string, filter = OURS): PacketSocket =>
    openPacketSocket(native, { ifName, netns, filter, budget: ENOUGH, onFrame: () => undefined });
  t.throws(() => open('tap0', near.path), {
    name: 'VmError',
    message: /cannot open a packet socket on tap0/,
  });
  t.throws(() => open('veth', '/run/netns/not-there'), {
    kind: 'NotFound',
    message: /\/run\/netns\/not-there/,
  });
  const before = readdirSync('/proc/self/fd').length;
  t.throws(
    () => open('veth', near.path, Buffer.alloc(8)),
    { name: 'VmError', message: /EINVAL/ },
    'no program',
  );
  t.throws(() => open('veth', near.path, Buffer.alloc(9)), /8 bytes/);
  t.equal(readdirSync('/proc/self/fd').length, before);
  t.end();
});

void t.test('a descriptor is watched once, and only while it is', (t) => {
  const fd = native.packetSocket('lo', NOTHING, 4096);
  native.watchReadable(fd, () => undefined);
  t.throws(() => native.watchReadable(fd, () => undefined), { code: 'EEXIST' });
  native.unwatch(fd);
  t.throws(() => native.unwatch(fd), { code: 'ENOENT' });
  native.watchReadable(fd, () => undefined);
  native.unwatch(fd);
  t.throws(() => native.watchReadable(9999, () => undefined), { code: 'EBADF' });
  const file = native.memfdCreate('file', 0);
  t.throws(() => native.watchReadable(file, () => undefined), { code: 'EPERM' }, 'epoll cannot watch files');
  t.end();
});

/** An open socket on `lo` whose filter lets every frame through. */
const OPEN = `
  import { loadNative } from '${source}/host/native.ts';
  import { openPacketSocket } from '${source}/host/packet-socket.ts';
  const filter = new Uint8Array([6, 0, 0, 0, 255, 0, 0, 0]);
  let onFrame = () => {};
  const socket = openPacketSocket(loadNative(),
    { ifName: 'lo', filter, budget: { frames: 9, windowMs: 9 }, onFrame: () => onFrame() });
`;

function node(script: string): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

void t.test('an open socket lets the process end', (t) => {
  t.strictSame(node(`${OPEN} console.log('open')`), { status: 0, stdout: 'open\n', stderr: '' });
  t.end();
});

void t.test('an exception in the callback is an uncaught exception like any other', (t) => {
  const { status, stderr } = node(`${OPEN}
    onFrame = () => { throw new Error('thrown in onFrame') };
    socket.send(new Uint8Array(60));
    setTimeout(() => {}, 60_000);`);
  t.equal(status, 1);
  t.match(stderr, 'thrown in onFrame');
  t.end();
});

void t.test('a worker ends with an open socket', async (t) => {
  const script = join(tempDir(t), 'open.mjs');
  writeFileSync(script, OPEN);
  const worker = new Worker(script);
  const [code] = (await once(worker, 'exit')) as [number];
  t.equal(code, 0);
});
