import { execFileSync } from 'node:child_process';
import { createServer } from 'node:net';
import { mkdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { buildAddon } from '../../../../scripts/build-addon.ts';
import type { DiskSource, DiskSpec, RbdImage } from '../../../../src/core/disk-spec.ts';
import { loadNative } from '../../../../src/host/native.ts';
import { openFlags } from '../../../../src/host/open-flags.ts';
import { type OpenDisks, openDisks } from '../../../../src/storage/volumes/open-disks.ts';
import { tempDir } from '../../../support/temp-dir.ts';
import { WatchedHost } from '../support/watched-host.ts';

const MIB = 2 ** 20;
buildAddon();
const native = loadNative();

const disk = (name: string, source: DiskSource, more: Partial<DiskSpec> = {}): DiskSpec => {
  const rest = {
    device: 'disk',
    bus: 'virtio',
    access: 'rw',
    boot: undefined,
    cache: 'auto',
    discard: true,
  } as const;
  return { name, serial: name, source, ...rest, ...more };
};

const onCeph = (secret: string, more: Partial<RbdImage> = {}): RbdImage => ({
  kind: 'rbd',
  pool: 'volumes',
  namespace: undefined,
  image: 'db',
  snapshot: undefined,
  monitors: [],
  user: undefined,
  secret: { destination: '/vmshim/ceph', source: secret, readOnly: true },
  ...more,
});

const inVolume = (source: string, more: object = {}): DiskSource => {
  const mount = { destination: '/data', source, readOnly: false };
  return { kind: 'file', mount, file: 'disk.img', asked: false, ...more };
};

class Lab {
  readonly host = new WatchedHost();
  readonly directory: string;
  readonly volume: string;
  readonly image: string;

  constructor(t: Test) {
    this.directory = tempDir(t);
    this.volume = join(this.directory, 'volume');
    this.image = join(this.volume, 'disk.img');
    for (const name of ['volume', 'run', 'allowed']) mkdirSync(join(this.directory, name));
  }

  async open(...specs: readonly DiskSpec[]): Promise<OpenDisks> {
    const state = { path: join(this.directory, 'pods/u/c'), root: this.directory, hostileRoot: false };
    const allowed = [join(this.directory, 'allowed')];
    const places = {
      state,
      runDir: join(this.directory, 'run'),
      allowed,
      rbd: { monitors: [{ host: '10.0.0.1', port: '6789' }], timeout: 7 },
      lockDir: join(this.directory, 'run'),
      holder: () => 'VM "other"',
    };
    return await openDisks({ host: this.host, native }, specs, places);
  }

  /** Fails with a sentence, and leaves nothing open. */
  async refuses(t: Test, message: RegExp, ...specs: readonly DiskSpec[]): Promise<void> {
    await t.rejects(this.open(...specs), { name: 'VmError', message }, String(message));
    t.equal(this.host.openFds.size, 0);
  }
}

void t.test('a disk image in a volume is opened past the page cache, and as it is', async (t) => {
  const lab = new Lab(t);
  writeFileSync(lab.image, 'QFI\xfb');
  truncateSync(lab.image, 3 * MIB);
  using open = await lab.open(disk('data', inVolume(lab.volume)));
  t.match(open.disks, [{ kind: 'file', size: 3 * MIB, readOnly: false, path: '/data/disk.img' }]);
  const [data] = open.disks;
  const { flags } = fdInfo(data?.fd.fd ?? -1);
  t.match(data, { direct: (flags & openFlags.O_DIRECT) !== 0 }, 'it is what it says');
  t.equal(flags & 3, openFlags.O_RDWR);
  open[Symbol.dispose]();
  t.equal(lab.host.openFds.size, 0);

  using buffered = await lab.open(disk('data', inVolume(lab.volume), { cache: 'writeback', access: 'ro' }));
  const now = fdInfo(buffered.disks[0]?.fd.fd ?? -1).flags;
  t.same([now & openFlags.O_DIRECT, now & 3], [0, openFlags.O_RDONLY]);
});

void t.test('a volume without an image is no disk unless somebody asked for it', async (t) => {
  const lab = new Lab(t);
  using open = await lab.open(disk('data', inVolume(lab.volume)));
  t.same(open.disks, []);
  t.match(open.warnings, [/the guest does not see the volume at \/data: it holds no disk.img/]);
  const asked = disk('data', inVolume(lab.volume, { asked: true }));
  await lab.refuses(t, /"\/data\/disk.img" is missing; put a raw disk image there/, asked);
  writeFileSync(join(lab.directory, 'single'), 'x'.repeat(512));
  const single = inVolume(join(lab.directory, 'single'), { asked: true });
  using one = await lab.open(disk('data', single));
  t.match(one.disks, [{ size: 512 }], 'a volume that is a file');
  one[Symbol.dispose]();
  const gone = disk('data', inVolume(join(lab.directory, 'gone'), { asked: true }));
  await lab.refuses(t, /the volume is missing on the node/, gone);
});

void t.test('whoever writes the volume cannot lead us anywhere', async (t) => {
  const make: Readonly<Record<string, (path: string) => unknown>> = {
    symlink: (path) => symlinkSync('/etc/passwd', path),
    fifo: (path) => execFileSync('mkfifo', [path]),
    directory: (path) => mkdirSync(path),
    'char-device': (path) => execFileSync('mknod', [path, 'c', '1', '5']),
    'block-device': (path) => execFileSync('mknod', [path, 'b', '7', '0']),
  };
  for (const [kind, how] of Object.entries(make)) {
    const lab = new Lab(t);
    how(lab.image);
    await lab.refuses(
      t,
      new RegExp(`"/data/disk.img" is a ${kind} and no disk image`),
      disk('data', inVolume(lab.volume)),
    );
  }
  const lab = new Lab(t);
  const server = createServer().listen(lab.image);
  await new Promise((resolve) => server.once('listening', resolve));
  await lab.refuses(t, /is a socket and no disk image/, disk('data', inVolume(lab.volume)));
  server.close();
  const empty = new Lab(t);
  writeFileSync(empty.image, '');
  await empty.refuses(
    t,
    /has no bytes; give it the size that the disk is to have/,
    disk('data', inVolume(empty.volume)),
  );
  const linked = new Lab(t);
  writeFileSync(linked.image, 'x');
  symlinkSync(linked.volume, join(linked.directory, 'link'));
  using nothing = await linked.open(disk('data', inVolume(join(linked.directory, 'link'))));
  t.same(nothing.disks, [], 'a volume that is a link is not followed');
});

void t.test('one disk serves one VM, and once', async (t) => {
  const lab = new Lab(t);
  writeFileSync(lab.image, 'x'.repeat(MIB));
  const [rw, ro] = [disk('data', inVolume(lab.volume)), disk('data', inVolume(lab.volume), { access: 'ro' })];
  const qemu = async (args: readonly string[], use: () => Promise<void>): Promise<void> => {
    // QEMU's own locks, by a program that holds the image open until it is told to end.
    const { spawn } = await import('node:child_process');
    const child = spawn('qemu-io', [...args, '-f', 'raw', lab.image], { stdio: ['pipe', 'pipe', 'inherit'] });
    const open = new Promise((resolve) => child.stdout.once('data', resolve));
    child.stdin.write('length\n');
    await open;
    await use();
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.stdin.end('quit\n');
    await ended;
  };
  await qemu([], async () => {
    await lab.refuses(
      t,
      /disk "data" \("\/data\/disk.img"\) is in use by VM "other"; one disk serves one VM/,
      rw,
    );
    await lab.refuses(t, /is in use by VM "other"/, ro);
  });
  await qemu(['-r'], async () => {
    await lab.refuses(t, /is in use by VM "other"/, rw);
    using together = await lab.open(ro);
    t.equal(together.disks.length, 1, 'readers share it');
  });
  const twice = disk('again', inVolume(lab.volume));
  await lab.refuses(
    t,
    /disks "data" .* and "again" .* are one and the same; mount the volume once/,
    rw,
    twice,
  );
});

void t.test('empty disks are made once, sparse, grown and never shrunk', async (t) => {
  const lab = new Lab(t);
  const empty = (bytes: number): DiskSpec => disk('scratch', { kind: 'empty', bytes });
  const path = join(lab.directory, 'pods/u/c/disk-scratch.img');
  {
    using open = await lab.open(empty(100 * MIB - 1));
    t.match(open.disks, [{ size: 100 * MIB, path }], 'rounded up');
  }
  t.ok(statSync(path).blocks * 512 < MIB, 'sparse');
  t.equal(statSync(path).mode & 0o777, 0o600);
  writeFileSync(path, 'kept', { flag: 'r+' });
  {
    using open = await lab.open(empty(200 * MIB));
    t.match(open.disks, [{ size: 200 * MIB }]);
    t.equal(statSync(path).size, 200 * MIB);
  }
  t.equal(readFileSync(path).toString('latin1', 0, 4), 'kept');
  await lab.refuses(t, /empty disk "scratch" has 209715200 bytes already and is never shrunk/, empty(MIB));
});

void t.test('disks of the node: only below what is allowed, and by no link', async (t) => {
  const lab = new Lab(t);
  const allowed = join(lab.directory, 'allowed');
  const host = (path: string): DiskSpec => disk('h', { kind: 'host', path });
  mkdirSync(join(allowed, 'below'));
  writeFileSync(join(allowed, 'below/a.img'), 'x'.repeat(512));
  using open = await lab.open(host(join(allowed, 'below/a.img')));
  t.match(open.disks, [{ size: 512 }]);
  open[Symbol.dispose]();
  symlinkSync('/etc', join(allowed, 'etc'));
  symlinkSync('/etc/passwd', join(allowed, 'passwd'));
  await lab.refuses(t, /but this node allows ".*\/allowed"; have its administrator add/, host('/etc/passwd'));
  await lab.refuses(t, /but this node allows/, host(`${allowed}-not/x`));
  await lab.refuses(t, /allowed\/etc" of the node is a symlink/, host(join(allowed, 'etc/passwd')));
  await lab.refuses(t, /allowed\/passwd" is a symlink and no disk image/, host(join(allowed, 'passwd')));
  await lab.refuses(t, /allowed\/no" of the node is missing/, host(join(allowed, 'no/x')));
  await lab.refuses(t, /allowed\/x" is missing/, host(join(allowed, 'x')));
});

void t.test('a block device that is not there is told by its number', async (t) => {
  const lab = new Lab(t);
  const device = disk('d', { kind: 'device', path: '/dev/d', major: 4000, minor: 7 });
  await lab.refuses(t, /disk "d" \(block volume \/dev\/d\): the block device 4000:7 is not there/, device);
});

void t.test('files of a volume become a read-only disk, whatever else is in there is refused', async (t) => {
  const lab = new Lab(t);
  const files = (format: 'vfat' | 'iso'): DiskSpec => {
    const mount = { destination: '/data', source: lab.volume, readOnly: true };
    return disk(format, { kind: 'files', mount, format, label: 'DATA' }, { access: 'ro' });
  };
  mkdirSync(join(lab.volume, '..1/sub'), { recursive: true });
  writeFileSync(join(lab.volume, '..1/top'), 'one');
  writeFileSync(join(lab.volume, '..1/sub/deep'), 'two');
  symlinkSync('..1', join(lab.volume, '..data'));
  symlinkSync('..data/top', join(lab.volume, 'top'));
  symlinkSync('..data/sub', join(lab.volume, 'sub'));
  using open = await lab.open(files('vfat'), files('iso'));
  t.match(open.disks, [{ readOnly: true }, { readOnly: true }]);
  const run = join(lab.directory, 'run');
  t.equal(statSync(join(run, 'disk-vfat.img')).mode & 0o777, 0o600, 'they may be secrets');
  const mtools = (...args: string[]): string =>
    execFileSync(args[0] ?? '', args.slice(1), { encoding: 'utf8' });
  t.equal(mtools('mtype', '-i', join(run, 'disk-vfat.img'), '::sub/deep'), 'two');
  t.match(mtools('mlabel', '-i', join(run, 'disk-vfat.img'), '-s', '::'), /DATA/);
  open[Symbol.dispose]();
  t.equal(lab.host.openFds.size, 0);

  for (const [kind, make] of [
    ['symlink', (path: string): unknown => symlinkSync('/etc/passwd', path)],
    ['fifo', (path: string): unknown => execFileSync('mkfifo', [path])],
  ] as const) {
    const hostile = new Lab(t);
    make(join(hostile.volume, 'x'));
    const mount = { destination: '/data', source: hostile.volume, readOnly: true };
    const spec = disk('f', { kind: 'files', mount, format: 'vfat', label: 'F' });
    await hostile.refuses(t, new RegExp(`"/data/x" is a ${kind}; a disk is made of regular files`), spec);
  }
  const big = new Lab(t);
  writeFileSync(join(big.volume, 'x'), '');
  truncateSync(join(big.volume, 'x'), 65 * MIB);
  const mount = { destination: '/data', source: big.volume, readOnly: true };
  await big.refuses(
    t,
    /"\/data" has more than 64 MiB of files/,
    disk('f', { kind: 'files', mount, format: 'vfat', label: 'F' }),
  );
});

function fdInfo(fd: number): { flags: number } {
  const text = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
  return { flags: Number.parseInt(/^flags:\s+(\d+)$/m.exec(text)?.[1] ?? '', 8) };
}

const KEY = 'AQDoEgNrPp21OBAAvs1V4mnA6agnvGp/d+A3oA==';

void t.test('an image of Ceph: the key of the Secret, and one VM at a time', async (t) => {
  const lab = new Lab(t);
  const secret = join(lab.directory, 'secret');
  mkdirSync(secret);
  writeFileSync(join(secret, 'userKey'), `${KEY}\n`);
  using first = await lab.open(disk('db', onCeph(secret)));
  const [db] = first.disks;
  if (db?.kind !== 'rbd') throw new Error('no image of Ceph');
  t.match(db, { path: 'volumes/db', readOnly: false, target: { user: 'admin' } });
  t.same(db.target.monitors, [{ host: '10.0.0.1', port: '6789' }]);
  t.equal(readFileSync(`/proc/self/fd/${db.key.fd}`, 'utf8'), KEY);
  const conf = readFileSync(`/proc/self/fd/${db.conf.fd}`, 'utf8');
  t.match(conf, /^client_mount_timeout = 7$/m);
  t.notMatch(conf, KEY);

  const again = disk('again', onCeph(secret));
  const reader = disk('reader', onCeph(secret), { access: 'ro' });
  const inUse = /disk "\w+" \(rbd volumes\/db\) is in use by VM "other"; one disk serves one VM/;
  for (const other of [again, reader]) await t.rejects(lab.open(other), { message: inUse });
  // Another image, and one that nobody can write, are none of the first one's business.
  using others = await lab.open(
    disk('two', onCeph(secret, { image: 'db2' })),
    disk('snap', onCeph(secret, { snapshot: 's' }), { access: 'ro' }),
    disk('there', onCeph(secret, { namespace: 'ns' })),
  );
  t.equal(others.disks.length, 3);
  others[Symbol.dispose]();
  first[Symbol.dispose]();
  t.equal(lab.host.openFds.size, 0);
  using readers = await lab.open(reader);
  using more = await lab.open(reader);
  t.same([readers.disks.length, more.disks.length], [1, 1], 'those who read share it');
  await t.rejects(lab.open(again), { message: inUse });
  readers[Symbol.dispose]();
  more[Symbol.dispose]();
  await lab.refuses(t, /"again" .* and "reader" .* are one and the same/, again, reader);
});

void t.test('an image of Ceph: what is refused says what to do, and no word of the key', async (t) => {
  const lab = new Lab(t);
  const secret = join(lab.directory, 'secret');
  mkdirSync(secret);
  const refuses = (message: RegExp, more: Partial<RbdImage> = {}): Promise<void> =>
    lab.refuses(t, message, disk('db', onCeph(secret, more)));
  await refuses(
    /the Secret at "\/vmshim\/ceph" holds nothing; put the key of the Ceph user there as "userKey"/,
  );
  writeFileSync(join(secret, 'key'), `x${KEY}`);
  await refuses(
    /the Secret at "\/vmshim\/ceph" has no key of Ceph in "key"; put there what "ceph auth print-key/,
  );
  writeFileSync(join(secret, 'key'), KEY);
  writeFileSync(join(secret, 'userID'), 'a b');
  await refuses(/no name of a Ceph user in "userID"; put there NAME of client.NAME/);
  writeFileSync(join(secret, 'userID'), 'cinder\n');
  using open = await lab.open(disk('db', onCeph(secret)));
  t.match(open.disks, [{ target: { user: 'cinder' } }]);
  open[Symbol.dispose]();
  using named = await lab.open(disk('db', onCeph(secret, { user: 'vm' })));
  t.match(named.disks, [{ target: { user: 'vm' } }], 'the annotation has the last word');
  named[Symbol.dispose]();
  const monitors = [{ host: 'fd00::1', port: '3300' }];
  await refuses(/of the monitor \[fd00::1\]:3300, but this node allows 10.0.0.1:6789; leave monitors out/, {
    monitors,
  });
  const source = join(lab.directory, 'kubernetes.io~configmap/ceph');
  mkdirSync(source, { recursive: true });
  writeFileSync(join(source, 'key'), KEY);
  const mount = { destination: '/vmshim/ceph', source, readOnly: true };
  await refuses(/is a ConfigMap; put the key into a Secret/, { secret: mount });
});
