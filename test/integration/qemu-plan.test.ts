/**
 * The plan against the real QEMU: what it says is taken as uid 65534 with the whole sandbox and descriptors that root
 * opened, and a guest boots by it. TCG everywhere, so that it runs on any machine.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { buildAddon } from '../../scripts/build-addon.ts';
import { loadNative } from '../../src/host/native.ts';
import { planQemu } from '../../src/qemu/plan.ts';
import type { FdRole, NicFdRole, SharedFdRole, VolumeFdRole } from '../../src/qemu/plan-fds.ts';
import { inEmptyNetwork } from '../../src/host/network-namespace.ts';
import type { GuestRam, HostMemory } from '../../src/core/guest-ram.ts';
import type { QemuInput } from '../../src/qemu/qemu-input.ts';
import { QmpClient } from '../../src/qemu/qmp-client.ts';
import { cont, queryStatus, quit } from '../../src/qemu/qmp-commands.ts';
import { guest } from '../support/guest.ts';
import { tempDir } from '../support/temp-dir.ts';
import { baseInput, goldenCases, goldenFiles } from '../unit/qemu-plan/golden-cases.ts';

const NOBODY = 65534;
/** Only a hang reaches it: a boot takes 2 to 10 s, and machines differ tenfold. */
const PATIENCE = 600_000;
const { O_RDONLY, O_RDWR } = constants;

buildAddon();
const native = loadNative();
const images = await guest();
const accepted = new Set(goldenFiles('.args'));

class Machine {
  readonly qmp: QmpClient;
  /** Exit code or signal, and everything QEMU said. */
  readonly end: Promise<{ code: number | null; signal: string | null; said: string }>;
  readonly #console: Socket;
  #unread = '';

  constructor(qmp: QmpClient, console: Socket, end: Machine['end']) {
    this.qmp = qmp;
    this.end = end;
    this.#console = console;
    console.on('data', (chunk: Buffer) => (this.#unread += chunk.toString('latin1').replaceAll('\r', '')));
  }

  /** Waits until the console shows the pattern behind what was read before. */
  async reads(pattern: RegExp): Promise<boolean> {
    const signal = AbortSignal.timeout(PATIENCE);
    for (;;) {
      const found = pattern.exec(this.#unread);
      if (found !== null) {
        this.#unread = this.#unread.slice(found.index + found[0].length);
        return true;
      }
      await once(this.#console, 'data', { signal }).catch((cause: unknown) => {
        throw new Error(`no ${String(pattern)} in …${this.#unread.slice(-1500)}`, { cause });
      });
    }
  }

  async type(line: string): Promise<void> {
    await this.reads(/^vmguest# $/m);
    this.#console.write(`${line}\n`);
  }
}

/** Starts QEMU as the plan says and connects to it; the guest is paused. Gone when the test is. */
async function start(t: Test, input: QemuInput): Promise<Machine> {
  const directory = tempDir(t);
  const { args, fds } = planQemu(input);
  const ours = fds.map((role) => openRole(role, directory, input));
  const child = spawn('qemu-system-x86_64', args, {
    uid: NOBODY,
    gid: NOBODY,
    env: {},
    cwd: '/',
    stdio: ['ignore', 'pipe', 'pipe', ...ours],
  });
  const end = ended(child);
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  t.teardown(async () => {
    kill();
    await end;
    process.off('exit', kill);
  });
  // A listening socket that we kept would hold a connection to a dead QEMU open.
  for (const fd of ours) closeSync(fd);
  const qmp = await QmpClient.connect(join(directory, 'qmp'), {
    signal: AbortSignal.timeout(PATIENCE),
  }).catch(async (cause: unknown) => {
    kill();
    throw new Error(`QEMU did not start: ${JSON.stringify(await end)}`, { cause });
  });
  const console = connect(join(directory, 'console'));
  await once(console, 'connect');
  t.teardown(() => {
    qmp[Symbol.dispose]();
    console.destroy();
  });
  return new Machine(qmp, console, end);
}

async function ended(child: ChildProcess): Promise<Awaited<Machine['end']>> {
  const [stdout, stderr, exit] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, 'close'),
  ]);
  const [code, signal] = exit as [number | null, string | null];
  return { code, signal, said: stdout + stderr };
}

/** A TAP in a network namespace that lives as long as the TAP; vhost is not on every machine and in no case here. */
function openNic(role: NicFdRole): number {
  return inEmptyNetwork(native, () => {
    const fd = openSync('/dev/net/tun', O_RDWR);
    const IFF_TAP = 2;
    const IFF_NO_PI = 0x1000;
    const IFF_VNET_HDR = 0x4000;
    native.tunSetIff(fd, role.replace('-', ''), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    return fd;
  });
}

/** A fresh one for each VM; files belong to root, and what is written to is private to root. */
function openRole(role: FdRole, directory: string, { rootDisk, firmware }: QemuInput): number {
  const base = rootDisk?.format === 'qcow2' ? rootDisk.base?.format : undefined;
  switch (role) {
    case 'qmp':
    case 'console':
      return native.listenUnix(join(directory, role), 4);
    case 'root-overlay':
      return openSync(makeOverlay(directory, base), O_RDWR);
    case 'root-base':
      return openSync(base === 'raw' ? images.raw : images.qcow2, O_RDONLY);
    case 'guest-drive': {
      const path = join(directory, 'guest-data.img');
      writeFileSync(path, Buffer.alloc(1 << 20), { mode: 0o600 });
      return openSync(path, O_RDONLY);
    }
    case 'root-device':
      throw new Error('a block device is tested with the storage that prepares it');
    case 'kernel':
      return openSync(images.kernel, O_RDONLY);
    case 'initrd':
      return memfd(readFileSync(images.initrd));
    case 'firmware-vars': {
      const path = join(directory, 'vars.fd');
      const template = firmware.kind === 'uefi-secure' ? 'OVMF_VARS_4M.ms.fd' : 'OVMF_VARS_4M.fd';
      copyFileSync(`/usr/share/OVMF/${template}`, path);
      return openSync(path, O_RDWR);
    }
    default:
      if (isShared(role)) throw new Error('a virtiofsd is tested with the VM that starts it');
      return isVolume(role) ? openVolume(role, directory) : openNic(role);
  }
}

function isShared(role: FdRole): role is SharedFdRole {
  return role.startsWith('shared-');
}

function isVolume(role: FdRole): role is VolumeFdRole {
  return role.startsWith('volume-');
}

/** One descriptor serves readers as well. */
function openVolume(role: VolumeFdRole, directory: string): number {
  const path = join(directory, `${role}.img`);
  writeFileSync(path, Buffer.alloc(1 << 20), { mode: 0o600 });
  return openSync(path, role.includes('-ro') ? O_RDONLY : O_RDWR);
}

/** Its header names a base that does not exist, to show that only the plan's own base is opened. */
function makeOverlay(directory: string, base: 'qcow2' | 'raw' | undefined): string {
  const path = join(directory, 'root.qcow2');
  const backing = base === undefined ? [] : ['-u', '-F', base, '-b', '/nonexistent/base'];
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...backing, path, '256M']);
  chmodSync(path, 0o600);
  return path;
}

function memfd(content: Buffer): number {
  const fd = native.memfdCreate('initrd', 0);
  writeSync(fd, content);
  return fd;
}

async function quitCleanly(t: Test, vm: Machine): Promise<void> {
  await quit(vm.qmp);
  t.strictSame(await vm.end, { code: 0, signal: null, said: '' });
}

for (const { name, input } of goldenCases()) {
  // A block device is tested with the storage that prepares it, in root-disk.test.ts.
  if (!accepted.has(name) || input.rootDisk?.format === 'raw') continue;
  void t.test(`QEMU takes ${name}`, async (t) => {
    // Machines without vhost-net are tested as well; several queues of one TAP are in net-tap.test.ts.
    const nics = input.nics.map((nic) => ({ ...nic, vhost: false, queues: 1 }));
    // Nor has every machine more than one memory node, or huge pages set aside: test/testbed/numa.test.ts.
    // A shared directory needs a virtiofsd: shared-directories.test.ts.
    const spec = { ...input.spec, hugepageBytes: undefined, shared: [] };
    // Block volumes are in volumes.test.ts, images of Ceph in test/ceph.
    const volumes = input.volumes.flatMap((volume) =>
      volume.backend === 'rbd' ? [] : [{ ...volume, backend: 'file' as const }],
    );
    const vm = await start(t, { ...input, spec, accel: 'tcg', nics, volumes, ram: onNode0(input.ram) });
    t.strictSame(await queryStatus(vm.qmp), { status: 'prelaunch', running: false });
    t.equal(((await vm.qmp.execute('query-name')) as { name: string }).name, input.spec.name);
    await quitCleanly(t, vm);
  });
}

function onNode0(ram: GuestRam): GuestRam {
  const there = (host: HostMemory): HostMemory => ({ ...host, node: 0 });
  return ram.kind === 'whole'
    ? { ...ram, host: ram.host && there(ram.host) }
    : { ...ram, nodes: ram.nodes.map((node) => ({ ...node, host: there(node.host) })) };
}

const tcg: QemuInput = {
  ...baseInput,
  accel: 'tcg',
  spec: { ...baseInput.spec, network: { mode: 'user', mac: '52:54:00:00:00:07', forwards: [] } },
};
const kernel = (cmdline: string): QemuInput['spec']['boot'] => {
  return { kind: 'kernel', kernel: '/kernel', initrd: '/initrd', cmdline, disk: 'optional' };
};

async function bootsFromDisk(t: Test, input: QemuInput): Promise<void> {
  const vm = await start(t, input);
  await cont(vm.qmp);
  t.ok(await vm.reads(/vmguest: ready uptime=\S+ cpus=2/));
  await vm.type('disks');
  t.ok(await vm.reads(/^disk vda bytes=268435456 ro=0 serial=root$/m));
  await vm.type('nics');
  t.ok(await vm.reads(/^nic eth0 mac=52:54:00:00:00:07 mtu=1500 driver=virtio_net$/m));
  await vm.type('write-pattern plan 2');
  t.ok(await vm.reads(/^pattern written$/m), 'the overlay takes writes');
  await quitCleanly(t, vm);
}

void t.test('a guest boots from its disk by SeaBIOS', (t) => bootsFromDisk(t, { ...tcg, aio: 'threads' }));

void t.test('a guest boots from its disk by UEFI', (t) =>
  bootsFromDisk(t, { ...tcg, firmware: { kind: 'uefi', codePath: '/usr/share/OVMF/OVMF_CODE_4M.fd' } }),
);

void t.test('a kernel boots beside a disk, and its panic is told', async (t) => {
  const vm = await start(t, { ...tcg, spec: { ...tcg.spec, boot: kernel(images.cmdline) } });
  using panics = vm.qmp.listen(['GUEST_PANICKED']);
  await cont(vm.qmp);
  await vm.type('disks');
  t.ok(await vm.reads(/^disk vda bytes=268435456 ro=0 serial=root$/m));
  await vm.type('panic');
  t.equal((await panics.next({ signal: AbortSignal.timeout(PATIENCE) })).name, 'GUEST_PANICKED');
  await quitCleanly(t, vm);
});

void t.test('a guest has the NUMA nodes, CPUs and distances of its plan', async (t) => {
  const MIB = 1024 * 1024;
  const bound = { node: 0, policy: 'bind' as const };
  const vm = await start(t, {
    ...tcg,
    spec: { ...tcg.spec, vcpus: 3, maxVcpus: 3, memoryBytes: 384 * MIB, boot: kernel(images.cmdline) },
    ram: {
      kind: 'nodes',
      nodes: [
        { vcpus: 2, memoryBytes: 256 * MIB, host: bound },
        { vcpus: 1, memoryBytes: 128 * MIB, host: bound },
      ],
      distances: [
        [10, 31],
        [17, 10],
      ],
    },
  });
  await cont(vm.qmp);
  await vm.type(
    'cd /sys/devices/system/node; cat online node0/cpulist node1/cpulist node0/distance node1/distance',
  );
  t.ok(await vm.reads(/^0-1\n0-1\n2\n10 31\n17 10$/m));
  await vm.type("sed -n 's/.*MemTotal: *//p' /sys/devices/system/node/node?/meminfo");
  t.ok(await vm.reads(/^2\d{5} kB\n1\d{5} kB$/m), 'memory of both');
  await quitCleanly(t, vm);
});

void t.test('a kernel boots on a microvm', async (t) => {
  const spec: QemuInput['spec'] = { ...tcg.spec, machine: 'microvm', boot: kernel(images.cmdline) };
  const vm = await start(t, { ...tcg, machineType: 'microvm', rootDisk: undefined, spec });
  await cont(vm.qmp);
  t.ok(await vm.reads(/vmguest: ready/));
  await quitCleanly(t, vm);
});

void t.test('a machine without virtio boots from SATA and has the cards of a PC', async (t) => {
  const hardware = { ...tcg.spec.hardware, diskBus: 'sata', nicModel: 'e1000e', video: 'std' } as const;
  const vm = await start(t, { ...tcg, spec: { ...tcg.spec, hardware } });
  await cont(vm.qmp);
  t.ok(await vm.reads(/vmguest: ready/), 'SeaBIOS has read the boot loader from it');
  // The guest's kernel is one for clouds and has no drivers for them.
  await vm.type(
    'cd /sys/bus/pci/devices; cat 0000:00:17.0/class 0000:00:03.0/device 0000:00:01.0/class 0000:00:14.0/class',
  );
  t.ok(await vm.reads(/^0x010601\n0x10d3\n0x030000\n0x0c0330$/m), 'AHCI, 82574L, VGA, xHCI');
  await quitCleanly(t, vm);
});

void t.test('a guest boots from virtio-scsi', async (t) => {
  const vm = await start(t, {
    ...tcg,
    spec: { ...tcg.spec, hardware: { ...tcg.spec.hardware, diskBus: 'scsi' } },
  });
  await cont(vm.qmp);
  t.ok(await vm.reads(/vmguest: ready/));
  await vm.type('modprobe -a virtio_scsi sd_mod; until [ -e /dev/sda ]; do :; done');
  await vm.type('disks');
  t.ok(await vm.reads(/^disk sda bytes=268435456 ro=0/m));
  await vm.type('write-pattern scsi 1 /dev/sda');
  t.ok(await vm.reads(/^pattern written$/m));
  await quitCleanly(t, vm);
});

void t.test('Secure Boot refuses a boot loader that nobody has signed', async (t) => {
  const codePath = '/usr/share/OVMF/OVMF_CODE_4M.secboot.fd';
  const vm = await start(t, { ...tcg, firmware: { kind: 'uefi-secure', codePath } });
  await cont(vm.qmp);
  t.ok(await vm.reads(/BdsDxe: failed to load Boot\d+ .*: Access Denied/));
  await quitCleanly(t, vm);
});
