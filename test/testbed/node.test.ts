/** What the test-bed's node is for: other tests count on it. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readFileSync, readSync, statSync } from 'node:fs';
import t from 'tap';
import { detectCgroupLayout } from '../../src/host/cgroup-layout.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { loadNative } from '../../src/host/native.ts';
import { detectAccel } from '../../src/qemu/accel.ts';
import { ExpectText } from '../support/expect-text.ts';
import { tempDir } from '../support/temp-dir.ts';

/** The kernel's own loopback (vsock(7)). */
const VMADDR_CID_LOCAL = 1;

const host = new LinuxHost();
const read = (path: string): string => readFileSync(path, 'utf8').trim();

void t.test('cgroup v2 alone', (t) => {
  t.equal(detectCgroupLayout(host).kind, 'v2');
  t.match(read('/sys/fs/cgroup/cgroup.controllers').split(' '), ['cpuset', 'cpu', 'io', 'memory']);
  t.end();
});

void t.test('two NUMA nodes with a distance, one with twice the memory of the other', (t) => {
  const node = (id: number, file: string): string => read(`/sys/devices/system/node/node${id}/${file}`);
  t.equal(read('/sys/devices/system/node/online'), '0-1');
  t.same([node(0, 'distance'), node(1, 'distance')], ['10 21', '21 10']);
  t.same([node(0, 'cpulist'), node(1, 'cpulist')], ['0-1', '2']);
  // SPARE_CPU in scripts/node/plan-node.ts says why.
  t.match(read('/proc/self/status'), /^Cpus_allowed_list:\s*1-2$/m, 'CPU 0 is nobody’s');
  const [first, second] = [0, 1].map((id) => Number(/MemTotal: +(\d+)/.exec(node(id, 'meminfo'))?.[1]));
  t.ok(first! > 1.5 * second!, `${first} kB and ${second} kB`);
  t.match(execFileSync('numactl', ['-H'], { encoding: 'utf8' }), 'available: 2 nodes (0-1)');
  t.end();
});

void t.test('KVM is there, and accel "auto" takes it', async (t) => {
  t.equal(statSync('/dev/kvm').mode & 0o777, 0o660);
  const kvm = await detectAccel(host, 'auto', { stateDir: tempDir(t) });
  t.match(kvm, { accel: 'kvm', warn: false, reason: 'KVM works on this host' });
  t.equal(kvm.kvmGid, statSync('/dev/kvm').gid, 'by its group, for a QEMU without privileges');
});

void t.test('vhost-net and vhost-vsock', (t) => {
  for (const device of ['/dev/vhost-net', '/dev/vhost-vsock']) t.ok(statSync(device).isCharacterDevice());
  t.end();
});

void t.test('our addon connects by the kernel’s vsock', async (t) => {
  const server = spawn('socat', ['-d', '-d', 'VSOCK-LISTEN:7', 'SYSTEM:echo hello'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(server, 'close');
  await new ExpectText(server.stderr).until(/listening on .*\n/);
  const native = loadNative();
  const fd = native.vsockConnect(VMADDR_CID_LOCAL, 7);
  const readable = Promise.withResolvers<boolean>();
  native.watchReadable(fd, readable.resolve);
  t.equal(await readable.promise, false, 'connected');
  const bytes = Buffer.alloc(100);
  t.equal(bytes.toString('latin1', 0, readSync(fd, bytes)), 'hello\n');
  native.unwatch(fd);
  closeSync(fd);
  await ended;
});
