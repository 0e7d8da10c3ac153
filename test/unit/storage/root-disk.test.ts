import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { VmOwner } from '../../../src/core/vm-spec.ts';
import { findImageDisk, type ImageDisk } from '../../../src/storage/image-disk.ts';
import {
  ensureOverlay,
  planRootDisk,
  type RootDisk,
  type RootDiskPlan,
} from '../../../src/storage/root-disk.ts';
import { HOSTILE_QCOW2, makeQcow2, makeRaw } from '../../support/hostile-images.ts';
import { tempDir, type Teardown } from '../../support/temp-dir.ts';
import { WatchedHost } from './support/watched-host.ts';
import { tempRootfs } from './support/temp-rootfs.ts';

const GIB = 2 ** 30;
const KEY = 'ab'.repeat(32);
const POD: VmOwner = {
  kind: 'pod',
  uid: '0b0c6b7e-1111-2222-3333-444455556666',
  name: 'web',
  namespace: 'default',
  container: 'vm',
  sandboxId: 's',
};

class Bench {
  readonly host: WatchedHost = new WatchedHost();
  readonly rootfs: string;
  readonly dataDir: string;
  readonly disk: string;

  constructor(t: Teardown) {
    this.rootfs = tempRootfs(t);
    this.dataDir = tempDir(t);
    this.disk = join(this.rootfs, 'disk', 'base.img');
    makeQcow2(this.disk);
  }

  plan(owner: VmOwner = { kind: 'container' }, id = 'c1'): RootDiskPlan {
    const { rootfs, dataDir } = this;
    return planRootDisk(owner, { bundleRootfs: rootfs, dataDir, id, namespace: 'default', nodeKey: KEY });
  }

  image(): ImageDisk {
    return findImageDisk(this.host, this.rootfs, 'required');
  }

  async ensure(plan = this.plan(), rootDiskBytes?: number, signal?: AbortSignal): Promise<RootDisk> {
    const image = this.image();
    try {
      const request = { rootDiskBytes, direct: false, ...(signal === undefined ? {} : { signal }) };
      return await ensureOverlay(this.host, plan, image, request);
    } catch (error) {
      image.fd[Symbol.dispose]();
      throw error;
    }
  }

  /** As one VM after the other would: what it got is closed again. */
  async visit(plan = this.plan(), rootDiskBytes?: number): Promise<Pick<RootDisk, 'change' | 'virtualSize'>> {
    const { overlay, base, change, virtualSize } = await this.ensure(plan, rootDiskBytes);
    overlay[Symbol.dispose]();
    base[Symbol.dispose]();
    return { change, virtualSize };
  }
}

const failed = (message: RegExp) => ({ kind: 'FailedPrecondition', message });

void t.test('a plan is names only', (t) => {
  const place = {
    bundleRootfs: '/r',
    dataDir: '/var/lib/vmshim',
    id: 'c1',
    namespace: 'default',
    nodeKey: KEY,
  };
  const container = planRootDisk({ kind: 'container' }, place);
  t.match(container.overlay, /^\/r\/\.vmshim-[0-9a-f]{32}\/root\.qcow2$/);
  t.match(container.nvram, /^\/r\/\.vmshim-[0-9a-f]{32}\/nvram\.fd$/);
  t.same(planRootDisk({ kind: 'container' }, place), container, 'stable');
  for (const other of [{ id: 'c2' }, { namespace: 'k8s.io' }, { nodeKey: 'cd'.repeat(32) }]) {
    t.not(planRootDisk({ kind: 'container' }, { ...place, ...other }).overlay, container.overlay);
  }
  t.equal(planRootDisk(POD, place).overlay, `/var/lib/vmshim/pods/${POD.uid}/vm/root.qcow2`);
  for (const uid of ['..', 'a/b', '', '-x', 'a\0b']) {
    t.throws(() => planRootDisk({ ...POD, uid }, place), { kind: 'InvalidArgument', message: /pod UID/ });
  }
  t.throws(() => planRootDisk({ ...POD, container: '../x' }, place), { message: /container name "..\/x"/ });
  t.end();
});

void t.test('an overlay is made once and kept', async (t) => {
  for (const owner of [POD, { kind: 'container' } as const]) {
    const bench = new Bench(t);
    const plan = bench.plan(owner);
    const disk = await bench.ensure(plan);
    t.match(disk, { change: 'created', virtualSize: 64 * 2 ** 20 });
    bench.host.writeBytes(disk.overlay.fd, 4096, Buffer.from('the guest was here'));
    disk.overlay[Symbol.dispose]();
    disk.base[Symbol.dispose]();
    t.equal(bench.host.openFds.size, 0);
    const { overlay } = plan;
    t.equal(statSync(overlay).mode & 0o777, 0o600);
    t.equal(statSync(plan.state.path).mode & 0o777, 0o700);
    t.same(readdirSync(plan.state.path), ['root.qcow2']);
    const before = readFileSync(overlay);
    const { ino } = statSync(overlay);

    bench.host.commands.length = 0;
    bench.host.syncs = 0;
    t.match(await bench.visit(plan), { change: 'kept', virtualSize: 64 * 2 ** 20 });
    t.same(bench.host.commands, [], 'a later start runs no command');
    t.equal(bench.host.syncs, 0, 'and syncs nothing');
    t.ok(readFileSync(overlay).equals(before));
    t.equal(statSync(overlay).ino, ino);
  }
});

void t.test('an overlay is made without running a command', async (t) => {
  const bench = new Bench(t);
  await bench.visit();
  t.same(bench.host.commands, []);
});

void t.test('the size asked for', async (t) => {
  const bench = new Bench(t);
  await t.rejects(bench.visit(bench.plan(), 1000), {
    kind: 'InvalidArgument',
    message:
      /root disk size of 1000 bytes is smaller than the image’s "\/disk\/base.img" with 67108864 bytes/,
  });
  await t.rejects(bench.visit(bench.plan(), 2 ** 50), { kind: 'InvalidArgument', message: /above 64 TiB/ });
  t.notOk(existsSync(bench.plan().state.path), 'nothing is made for a wrong size');
  t.match(await bench.visit(bench.plan(), GIB + 1), { change: 'created', virtualSize: GIB + 512 });
  t.match(await bench.visit(bench.plan(), 30 * GIB), { change: 'grown', virtualSize: 30 * GIB });
  t.match(await bench.visit(bench.plan(), GIB), { change: 'kept', virtualSize: 30 * GIB }, 'never shrunk');
  t.match(await bench.visit(), { change: 'kept', virtualSize: 30 * GIB });
});

void t.test('another image under the overlay is refused, and the overlay stays', async (t) => {
  const bench = new Bench(t);
  rmSync(bench.disk);
  makeRaw(bench.disk, 8 * 2 ** 20);
  const at = new Date(1_700_000_000_000);
  const restore = (): void => utimesSync(bench.disk, at, at);
  restore();
  await bench.visit();
  const before = readFileSync(bench.plan().overlay);
  const otherImage = failed(
    /over another image \(.*2023-11-14.*\) than "\/disk\/base.img" .*give the earlier image back.*delete the pod/,
  );

  utimesSync(bench.disk, at, new Date(1_700_000_001_000));
  await t.rejects(bench.visit(), otherImage, 'another time');
  restore();
  writeFileSync(join(bench.rootfs, 'disk.sha256'), 'ff');
  await t.rejects(bench.visit(), otherImage, 'another checksum, same size and time');
  rmSync(join(bench.rootfs, 'disk.sha256'));
  const image = readFileSync(bench.disk);
  image[2 ** 20 + 1080] = 1;
  writeFileSync(bench.disk, image);
  restore();
  await t.rejects(bench.visit(), otherImage, 'other contents, same size and time');
  image[2 ** 20 + 1080] = 0;
  writeFileSync(bench.disk, image);
  restore();
  t.match(await bench.visit(), { change: 'kept' }, 'the earlier image is welcome again');
  t.ok(readFileSync(bench.plan().overlay).equals(before));
  t.equal(bench.host.openFds.size, 0);
});

void t.test('an image cannot bring its own overlay', async (t) => {
  const bench = new Bench(t);
  const plan = bench.plan();
  for (const make of [
    () => mkdirSync(join(bench.rootfs, '.vmshim'), { recursive: true }),
    () => symlinkSync('/etc', join(bench.rootfs, '.vmshim')),
    () => writeFileSync(join(bench.rootfs, '.vmshim-0123'), ''),
    () => symlinkSync('/etc', `${plan.state.path}x`),
  ]) {
    make();
    await t.rejects(bench.visit(), failed(/container’s root file system is not this VM’s/));
    for (const name of readdirSync(bench.rootfs))
      if (name !== 'disk') rmSync(join(bench.rootfs, name), { recursive: true });
  }
  await bench.visit();
  await t.rejects(
    bench.visit(bench.plan({ kind: 'container' }, 'c2')),
    failed(/not this VM’s/),
    'nor another VM’s',
  );
  t.match(await bench.visit(bench.plan(POD)), { change: 'created' }, 'a pod’s disk is not looked for there');
});

void t.test('even under the right name nothing is followed or believed', async (t) => {
  const bench = new Bench(t);
  const { state, overlay } = bench.plan();
  symlinkSync('/etc', state.path);
  await t.rejects(bench.visit(), failed(/is a symlink where the VM’s disks belong/));
  rmSync(state.path);
  mkdirSync(state.path);
  symlinkSync('/etc/passwd', overlay);
  await t.rejects(bench.visit(), failed(/is a symlink and no overlay/));
  rmSync(overlay);
  makeQcow2(overlay);
  await t.rejects(bench.visit(), failed(/is not an overlay this shim made/));
  rmSync(overlay);
  makeQcow2(overlay, ['-u', '-F', 'raw', '-b', '/etc/passwd']);
  await t.rejects(bench.visit(), failed(/is not an overlay this shim made/));
  for (const { what, make } of HOSTILE_QCOW2) {
    rmSync(overlay);
    make(overlay);
    const before = readFileSync(overlay);
    await t.rejects(bench.visit(), failed(/./), what);
    t.ok(readFileSync(overlay).equals(before), 'left as it was');
  }
  t.equal(bench.host.openFds.size, 0);
});

void t.test('a crash while the overlay was made leaves nothing in the way', async (t) => {
  const bench = new Bench(t);
  const { state, overlay } = bench.plan();
  mkdirSync(state.path);
  writeFileSync(`${overlay}.new`, 'half an overlay');
  t.match(await bench.visit(), { change: 'created' });
  t.same(readdirSync(state.path), ['root.qcow2']);
  rmSync(overlay);
  const target = join(bench.dataDir, 'target');
  writeFileSync(target, 'untouched');
  symlinkSync(target, `${overlay}.new`);
  t.match(await bench.visit(), { change: 'created' });
  t.equal(readFileSync(target, 'utf8'), 'untouched');
});

void t.test('a failing write leaves no overlay', async (t) => {
  const bench = new Bench(t);
  bench.host.writeBytes = (fd, offset) => {
    writeSync(fd, 'half', offset);
    throw new Error('disk full');
  };
  await t.rejects(bench.ensure(), { message: 'disk full' });
  t.same(readdirSync(bench.plan().state.path), []);
  t.equal(bench.host.openFds.size, 0);
});

void t.test('an overlay that appeared meanwhile is not replaced', async (t) => {
  const bench = new Bench(t);
  const { overlay } = bench.plan();
  const writeBytes = bench.host.writeBytes.bind(bench.host);
  bench.host.writeBytes = (...call) => {
    writeFileSync(overlay, 'another’s');
    writeBytes(...call);
  };
  await t.rejects(bench.ensure(), { kind: 'AlreadyExists', message: /root\.qcow2/ });
  t.equal(readFileSync(overlay, 'utf8'), 'another’s');
});

void t.test('a canceled call makes nothing', async (t) => {
  const bench = new Bench(t);
  await t.rejects(bench.ensure(bench.plan(), undefined, AbortSignal.abort()), {
    kind: 'Canceled',
    message: /canceled/,
  });
  t.notOk(existsSync(bench.plan().state.path));
});

void t.test('what qemu-img says about an overlay', async (t) => {
  const bench = new Bench(t);
  await bench.visit(bench.plan(), GIB);
  await bench.visit(bench.plan(), 2 * GIB);
  const { overlay } = bench.plan();
  const file = { driver: 'qcow2', file: { driver: 'file', filename: overlay }, backing: null };
  const output = execFileSync('qemu-img', ['info', '--output=json', `json:${JSON.stringify(file)}`], {
    encoding: 'utf8',
  });
  const info = JSON.parse(output) as Record<string, unknown>;
  t.match(info, {
    'virtual-size': 2 * GIB,
    'backing-filename': /^vmshim-base-v1\//,
    'backing-filename-format': 'qcow2',
  });
});

void t.test('a disk goes on over its own base when the image is another one now', async (t) => {
  const bench = new Bench(t);
  const directory = join(bench.dataDir, 'bases');
  const visit = async (layers: readonly string[], rootDiskBytes?: number): Promise<RootDisk> => {
    const image = bench.image();
    const bases = { directory, mode: 'free', layers } as const;
    try {
      return await ensureOverlay(bench.host, bench.plan(POD), image, { rootDiskBytes, direct: false, bases });
    } finally {
      image.fd[Symbol.dispose]();
    }
  };
  const close = ({ overlay, base }: RootDisk): void => {
    overlay[Symbol.dispose]();
    base[Symbol.dispose]();
  };
  const first = await visit([bench.rootfs], GIB);
  const { ino } = statSync(bench.disk);
  const inode = ({ base }: RootDisk): number => statSync(`/proc/self/fd/${base.fd}`).ino;
  t.equal(inode(first), ino);
  t.same(first.notes, []);
  close(first);

  rmSync(bench.disk);
  makeRaw(bench.disk, 8 * 2 ** 20);
  const second = await visit([bench.rootfs], 128 * 2 ** 20);
  t.equal(inode(second), ino, 'not the new image');
  t.match(second, { change: 'kept', made: { format: 'qcow2' }, virtualSize: GIB });
  t.match(second.notes, [/image is another one now .*which is kept/, /keeps its 1073741824 bytes/]);
  close(second);
  t.equal(readdirSync(directory).length, 1);

  rmSync(directory, { recursive: true });
  await t.rejects(visit([bench.rootfs]), failed(/give the earlier image back.*delete the pod/));
  t.equal(bench.host.openFds.size, 0);
});

void t.test('a disk that cannot be claimed is not touched', async (t) => {
  const bench = new Bench(t);
  await bench.visit();
  const before = readFileSync(bench.plan().overlay);
  const image = bench.image();
  const claim = (): void => {
    throw new Error('in use');
  };
  const request = { rootDiskBytes: GIB, direct: false, claim };
  await t.rejects(ensureOverlay(bench.host, bench.plan(), image, request), { message: 'in use' });
  t.ok(readFileSync(bench.plan().overlay).equals(before));
  image.fd[Symbol.dispose]();
  t.equal(bench.host.openFds.size, 0);
});
