import { spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { availableParallelism, constants as osConstants } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { buildAddon } from '../../../scripts/build-addon.ts';
import { loadNative, type Native } from '../../../src/host/native.ts';
import { inEmptyNetwork } from '../../../src/host/network-namespace.ts';
import { tempDir } from '../../support/temp-dir.ts';

buildAddon();
const native = loadNative();

const O_CLOEXEC = 0o2000000;
const LOCK_EX_NB = 2 | 4;
const WNOHANG = 1;

function fdFlags(fd: number): number {
  const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  return Number.parseInt(flags ?? '0', 8);
}

function isCloexec(fd: number): boolean {
  return (fdFlags(fd) & O_CLOEXEC) !== 0;
}

void t.test('listenUnix makes a private socket that accepts connections whatever the umask is', async (t) => {
  const path = join(tempDir(t), 's.sock');
  const umask = process.umask(0o777);
  let fd: number;
  try {
    fd = native.listenUnix(path, 16);
  } finally {
    process.umask(umask);
  }
  t.equal(statSync(path).mode & 0o7777, 0o600);
  t.ok(isCloexec(fd));
  const server = createServer((socket) => socket.end('hello'));
  server.listen({ fd });
  const client = connect(path);
  const [data] = (await once(client, 'data')) as [Buffer];
  t.equal(data.toString(), 'hello');
  client.destroy();
  server.close();
  t.throws(() => native.listenUnix(path, 16), { code: 'EADDRINUSE', syscall: 'bind', errno: -98 });
});

void t.test('listenUnix refuses a path the kernel would cut', (t) => {
  t.throws(() => native.listenUnix(`/tmp/${'x'.repeat(103)}`, 1), {
    name: 'RangeError',
    message: /path.*107 bytes/,
  });
  t.throws(() => native.listenUnix('', 1), { name: 'RangeError' });
  t.throws(() => native.listenUnix('/tmp/a\0b', 1), { name: 'RangeError', message: /NUL/ });
  t.end();
});

void t.test('descriptors travel over a socket with their bytes', async (t) => {
  const path = join(tempDir(t), 's.sock');
  const server = createServer().listen({ fd: native.listenUnix(path, 1) });
  const accepted = once(server, 'connection');
  const client = connect(path);
  await once(client, 'connect');
  const [peer] = (await accepted) as [typeof client];
  const from = handleFd(client);
  const to = handleFd(peer);
  peer.pause();

  const memfd = native.memfdCreate('parcel', 0);
  writeSync(memfd, 'content');
  t.equal(native.sendFds(from, Buffer.from('take this'), [memfd, 2]), 9);
  const { bytes, fds } = native.recvFds(to, 100, 2);
  t.equal(bytes.toString(), 'take this');
  t.equal(fds.length, 2);
  t.equal(fstatSync(fds[0]!).ino, fstatSync(memfd).ino);
  t.ok(fds.every(isCloexec));
  for (const fd of fds) closeSync(fd);

  native.sendFds(from, Buffer.from('x'), [memfd, memfd, memfd]);
  const before = openFds();
  t.throws(() => native.recvFds(to, 100, 1), { code: 'EMSGSIZE' });
  t.strictSame(openFds(), before, 'nothing leaks when there are too many');
  t.throws(() => native.recvFds(to, 100, 1), { code: 'EAGAIN' });
  t.throws(() => native.sendFds(from, Buffer.alloc(0), [memfd]), { name: 'RangeError' });
  t.throws(() => native.sendFds(from, Buffer.from('x'), [9999]), { code: 'EBADF' });

  closeSync(memfd);
  client.destroy();
  peer.destroy();
  server.close();
});

void t.test('memfdCreate, dup and setCloexec', (t) => {
  const fd = native.memfdCreate('ram', 0);
  t.ok(isCloexec(fd));
  const copy = native.dup(fd);
  t.not(copy, fd);
  t.ok(isCloexec(copy));
  native.setCloexec(copy, false);
  t.notOk(isCloexec(copy));
  writeSync(fd, 'shared', 0);
  const bytes = Buffer.alloc(6);
  readSync(copy, bytes, 0, 6, 0);
  t.equal(bytes.toString(), 'shared');
  closeSync(fd);
  closeSync(copy);
  t.throws(() => native.dup(copy), { code: 'EBADF', syscall: 'fcntl' });
  t.end();
});

void t.test('flock tells a lock that somebody else holds', (t) => {
  const path = join(tempDir(t), 'lock');
  const one = openSync(path, constants.O_RDWR | constants.O_CREAT);
  const two = openSync(path, constants.O_RDWR);
  t.equal(native.flock(one, LOCK_EX_NB), true);
  t.equal(native.flock(two, LOCK_EX_NB), false);
  closeSync(one);
  t.equal(native.flock(two, LOCK_EX_NB), true);
  closeSync(two);
  t.throws(() => native.flock(two, LOCK_EX_NB), { code: 'EBADF' });
  t.end();
});

void t.test('a TAP is made with its options and gone with its last descriptor', (t) => {
  const IFF_TAP_VNET_HDR = 0x0002 | 0x1000 | 0x4000;
  inEmptyNetwork(native, () => {
    const fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
    t.equal(native.tunSetIff(fd, 'tapx%d', IFF_TAP_VNET_HDR), 'tapx0');
    native.tunSetInt(fd, 'vnet-hdr-size', 12);
    native.tunSetInt(fd, 'offload', 1);
    native.tunSetInt(fd, 'owner', 65534);
    native.tunSetInt(fd, 'persist', 0);
    const netns = native.tunNetns(fd);
    t.ok(isCloexec(netns));
    t.equal(fstatSync(netns).ino, statSync('/proc/thread-self/ns/net').ino);
    closeSync(netns);
    t.match(readFileSync('/proc/thread-self/net/dev', 'utf8'), /tapx0/);
    t.throws(() => native.tunSetInt(fd, 'vnet-hdr-size', 1), { code: 'EINVAL' });
    closeSync(fd);
    t.notMatch(readFileSync('/proc/thread-self/net/dev', 'utf8'), /tapx0/);
  });
  t.throws(() => native.tunSetIff(0, 'a-name-of-16-byt', 2), { name: 'RangeError' });
  t.end();
});

void t.test('a file system is mounted and unmounted', (t) => {
  const target = tempDir(t);
  native.mount('none', target, 'tmpfs', 0, 'size=64k');
  try {
    t.match(readFileSync('/proc/self/mountinfo', 'utf8'), ` ${target} `);
  } finally {
    native.umount(target, 0);
  }
  t.notMatch(readFileSync('/proc/self/mountinfo', 'utf8'), ` ${target} `);
  t.throws(() => native.mount(null, target, null, 32, null), { code: 'EINVAL', syscall: 'mount' });
  t.throws(() => native.umount(target, 0), { code: 'EINVAL', syscall: 'umount2' });
  t.end();
});

void t.test('an orphaned grandchild becomes ours and is signaled and reaped by pid', (t) => {
  native.setChildSubreaper(true);
  t.teardown(() => native.setChildSubreaper(false));
  const { stdout } = spawnSync('/bin/sh', ['-c', 'sleep 1000 >/dev/null 2>&1 & echo $!'], {
    encoding: 'utf8',
  });
  const pid = Number(stdout);
  t.match(readFileSync(`/proc/${pid}/status`, 'utf8'), new RegExp(`^PPid:\\s+${process.pid}$`, 'm'));
  t.equal(native.waitpid(pid, WNOHANG), null);

  const pidfd = native.pidfdOpen(pid);
  t.ok(isCloexec(pidfd));
  const copy = native.pidfdGetFd(pidfd, 1);
  t.ok(isCloexec(copy));
  t.equal(fstatSync(copy).rdev, statSync('/dev/null').rdev, 'its stdout');
  closeSync(copy);
  t.throws(() => native.pidfdGetFd(pidfd, 9999), { code: 'EBADF', syscall: 'pidfd_getfd' });
  native.pidfdSendSignal(pidfd, osConstants.signals.SIGKILL);
  t.strictSame(native.waitpid(pid, 0), { pid, status: 9 });
  t.throws(() => native.pidfdSendSignal(pidfd, 9), { code: 'ESRCH' });
  closeSync(pidfd);
  t.throws(() => native.pidfdOpen(pid), { code: 'ESRCH' });
  t.throws(() => native.waitpid(pid, WNOHANG), { code: 'ECHILD' });
  t.end();
});

void t.test('affinity and name of a thread', (t) => {
  const all = native.schedGetaffinity(0);
  t.equal(all.length, availableParallelism());
  native.schedSetaffinity(0, [all[0]!]);
  t.strictSame(native.schedGetaffinity(process.pid), [all[0]]);
  native.schedSetaffinity(0, all);
  t.throws(() => native.schedSetaffinity(0, []), { code: 'EINVAL' });
  t.throws(() => native.schedSetaffinity(0, [8192]), { name: 'RangeError' });

  const name = readFileSync('/proc/self/comm', 'utf8').trim();
  native.prctlSetName('vm:test');
  t.equal(readFileSync('/proc/self/comm', 'utf8').trim(), 'vm:test');
  native.prctlSetName(name);
  t.end();
});

void t.test('vsockConnect gives a non-blocking socket, or says why this host has none', (t) => {
  try {
    const fd = native.vsockConnect(2 ** 32 - 1, 1);
    t.ok(isCloexec(fd));
    t.ok(fdFlags(fd) & constants.O_NONBLOCK);
    closeSync(fd);
  } catch (error) {
    t.match(error, { syscall: /^(socket|connect)$/, code: /^(EAFNOSUPPORT|ENODEV|ENETUNREACH)$/ });
  }
  t.throws(() => native.vsockConnect(-1, 1), { name: 'RangeError', message: /cid/ });
  t.end();
});

void t.test('a wrong argument at any place throws, names it and never crashes', (t) => {
  // With these the call itself would fail, were one check missing: no such descriptor, path, process or flag.
  const sound = {
    listenUnix: ['/nonexistent/s.sock', 1],
    vsockConnect: [2 ** 32 - 1, 1],
    sendFds: [9999, Buffer.from('x'), [9999]],
    recvFds: [9999, 1, 1],
    setns: [9999, 0],
    mount: [null, '/nonexistent', null, 0, null],
    umount: ['/nonexistent', 0],
    memfdCreate: ['x', 2 ** 32 - 1],
    flock: [9999, 0],
    flockWait: [9999],
    ofdLocked: [9999, 0, 1],
    setCloexec: [9999, true],
    dup: [9999],
    tunSetIff: [9999, 'x', 0],
    tunSetInt: [9999, 'owner', 0],
    tunNetns: [9999],
    tunAttachFilter: [9999, Buffer.alloc(8)],
    packetSocket: ['x', Buffer.alloc(8), 0],
    listenTcp: [1],
    catchLoopback: [9999, 9999],
    setMark: [9999, 1],
    watchReadable: [9999, () => undefined],
    unwatch: [9999],
    pidfdOpen: [2 ** 31 - 1],
    pidfdSendSignal: [9999, 0],
    pidfdGetFd: [9999, 0],
    waitpid: [2 ** 31 - 1, 1],
    setChildSubreaper: [true],
    prctlSetName: ['x'],
    schedSetaffinity: [2 ** 31 - 1, [0]],
    schedGetaffinity: [2 ** 31 - 1],
  } satisfies Partial<Record<keyof Native, readonly unknown[]>>;
  t.strictSame(
    [...Object.keys(sound), 'sourceHash', 'setsid', 'unshareNet'].sort(),
    Object.keys(native).sort(),
  );

  const places = Object.entries<readonly unknown[]>(sound).flatMap(([name, args]) =>
    args.map((_, place) => ({ name, args, place })),
  );
  const broken = [
    undefined,
    {},
    -1.5,
    NaN,
    Infinity,
    1n,
    Symbol('x'),
    new Proxy([], {}),
    [{}],
    () => 1,
    new Float64Array(1),
  ];
  const functions: Readonly<Record<string, unknown>> = { ...native };
  fc.assert(
    fc.property(fc.constantFrom(...places), fc.constantFrom(...broken), ({ name, args, place }, value) => {
      fc.pre(typeof value !== 'function' || typeof args[place] !== 'function');
      const call = functions[name] as (...args: readonly unknown[]) => unknown;
      t.throws(() => call(...args.with(place, value)), { name: /^(Type|Range)Error$/ }, `${name} ${place}`);
      t.throws(() => call(...args.slice(0, place)), { name: 'TypeError' }, `${name} without ${place}`);
    }),
    { numRuns: 400 },
  );
  t.end();
});

/** The descriptor behind a socket; Node has no public way to it. */
function handleFd(socket: object): number {
  return (socket as { _handle: { fd: number } })._handle.fd;
}

function openFds(): string[] {
  return readdirSync('/proc/self/fd');
}
