import { closeSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { buildAddon } from '../../../scripts/build-addon.ts';
import { forwardLoopback } from '../../../src/host/loopback-forward.ts';
import { loadNative } from '../../../src/host/native.ts';
import { inEmptyNetwork } from '../../../src/host/network-namespace.ts';

buildAddon();
const native = loadNative();
// The node: a namespace of our own, so that its ports are ours.
native.unshareNet();
execFileSync('ip', ['link', 'set', 'lo', 'up']);

/** The pod's namespace, with nothing but its loopback. */
function podNetns(t: Test): string {
  const fd = inEmptyNetwork(native, () => openSync('/proc/thread-self/ns/net', 'r'));
  t.teardown(() => closeSync(fd));
  const path = `/proc/${process.pid}/fd/${fd}`;
  execFileSync('nsenter', [`--net=${path}`, 'ip', 'link', 'set', 'lo', 'up']);
  return path;
}

/** Stands for the guest: says on which port it was reached and how much it was sent, after the client's end. */
async function guest(t: Test, host: string): Promise<number> {
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    void text(socket).then((said) => socket.end(`${host} got ${said.length}`));
  });
  server.listen(0, host);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function dial(netns: string, host: string, port: number, input: string): Promise<string> {
  const client = spawn('nsenter', [`--net=${netns}`, 'busybox', 'nc', host, String(port)]);
  // A refused client takes no input.
  client.stdin.on('error', () => undefined);
  client.stdin.end(input);
  return await text(client.stdout);
}

function ownLinks(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith('anon_inode:bpf') ? [target] : [];
    } catch {
      return [];
    }
  });
}

void t.test(
  'every port of a namespace’s loopback leads to the same port of an address of ours',
  async (t) => {
    const netns = podNetns(t);
    const ports = [await guest(t, '127.0.0.1'), await guest(t, '127.0.0.1')];
    const forward = forwardLoopback(native, { netns, addresses: ['127.0.0.1'] });
    const large = 'x'.repeat(3_000_000);
    for (const port of ports) {
      t.equal(await dial(netns, '127.0.0.1', port, large), '127.0.0.1 got 3000000', 'IPv4, with its end');
      t.equal(await dial(netns, '::1', port, 'four'), '127.0.0.1 got 4', 'IPv6');
    }
    forward[Symbol.dispose]();
    t.equal(await dial(netns, '127.0.0.1', ports[0] ?? 0, 'x'), '', 'nothing listens any more');
    t.same(ownLinks(), []);
  },
);

void t.test('the next address is tried where one refuses', async (t) => {
  const netns = podNetns(t);
  const port = await guest(t, '::1');
  using _ = forwardLoopback(native, { netns, addresses: ['127.0.0.1', '::1'] });
  t.equal(await dial(netns, '127.0.0.1', port, 'abc'), '::1 got 3');
});

void t.test('a port that nobody listens on is a reset, and told', async (t) => {
  const netns = podNetns(t);
  const refused: [number, string][] = [];
  using _ = forwardLoopback(native, {
    netns,
    addresses: ['127.0.0.1'],
    onRefused: (port, reason) => refused.push([port, reason.message]),
  });
  t.equal(await dial(netns, '127.0.0.1', 7, 'abc'), '');
  t.match(refused, [[7, /ECONNREFUSED/]]);
});

void t.test('ending it ends the connections', async (t) => {
  const netns = podNetns(t);
  const server = createServer((socket) => socket.write('hello'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const forward = forwardLoopback(native, { netns, addresses: ['127.0.0.1'] });
  const client = spawn('nsenter', [`--net=${netns}`, 'busybox', 'nc', '127.0.0.1', String(port)]);
  t.teardown(() => client.kill());
  await once(client.stdout, 'data');
  const ended = once(client, 'close');
  forward[Symbol.dispose]();
  await ended;
  server.close();
  await once(server, 'close');
  t.pass('neither end is left');
});

void t.test('what is no loopback address is not taken', async (t) => {
  const netns = podNetns(t);
  const port = await guest(t, '127.0.0.1');
  const inPod = (...args: string[]): unknown => execFileSync('nsenter', [`--net=${netns}`, ...args]);
  inPod('ip', 'address', 'add', '10.9.0.1/32', 'dev', 'lo');
  inPod('ip', 'address', 'add', 'fd00:9::1/128', 'dev', 'lo');
  using _ = forwardLoopback(native, { netns, addresses: ['127.0.0.1'] });
  for (const host of ['10.9.0.1', 'fd00:9::1']) t.equal(await dial(netns, host, port, 'x'), '', host);
});

void t.test('a namespace that is not there', (t) => {
  t.throws(() => forwardLoopback(native, { netns: '/run/netns/none-such', addresses: ['127.0.0.1'] }), {
    kind: 'NotFound',
    message: /none-such/,
  });
  t.throws(() => native.catchLoopback(0, 0), { message: /BPF_/ });
  t.same(ownLinks(), []);
  t.end();
});
