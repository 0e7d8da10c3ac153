import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseImageName } from '../../../src/control/image-name.ts';
import {
  type ImagePackOptions,
  type ImagePackResult,
  packImage,
  type PackProgress,
} from '../../../src/control/image-pack-command.ts';
import { tarHeaderBlock, fileEntry } from '../../../src/control/tar-bytes.ts';
import { findImageDisk } from '../../../src/storage/image-disk.ts';
import { openImageInitrd, openImageKernel } from '../../../src/storage/kernel-image.ts';
import { FOREIGN_FORMATS, HOSTILE_QCOW2, makeQcow2, makeRaw } from '../../support/hostile-images.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { WatchedHost } from './support/watched-host.ts';

const PLAIN = {
  name: 'vm/test:1',
  kernel: undefined,
  initrd: undefined,
  cmdline: undefined,
  compress: 'none',
} as const;
const never = new AbortController().signal;

function pack(
  options: Partial<ImagePackOptions> & Pick<ImagePackOptions, 'disk' | 'output'>,
  signal = never,
): Promise<ImagePackResult> {
  const host = new WatchedHost();
  return packImage(host, { ...PLAIN, ...options }, { signal, onProgress: () => undefined }).finally(() => {
    if (host.openFds.size > 0) throw new Error('descriptors stay open');
  });
}

/** A raw disk of 3 MiB and a bit, with contents that never change. */
function fixedDisk(path: string): void {
  const bytes = Buffer.alloc(3 * 2 ** 20 + 700);
  for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE(Math.imul(i, 2_654_435_761) >>> 0, i);
  bytes.writeUInt16LE(0xaa55, 510);
  writeFileSync(path, bytes);
}

function fixedKernel(path: string): void {
  const image = Buffer.alloc(2000, 1);
  image.writeUInt16LE(0xaa55, 0x1fe);
  image.write('HdrS', 0x202);
  writeFileSync(path, image);
}

const tar = (...args: string[]): string =>
  execFileSync('tar', args, { encoding: 'utf8', env: { ...process.env, TZ: 'UTC' } });
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

interface Descriptor {
  readonly digest: string;
  readonly size: number;
  readonly mediaType: string;
  readonly annotations?: Record<string, string>;
}

/** Unpacks an archive and checks every digest and size from the index down. */
function unpack(archive: string, into: string) {
  mkdirSync(into);
  tar('xf', archive, '-C', into);
  const json = (path: string) =>
    JSON.parse(readFileSync(join(into, path), 'utf8')) as Record<string, unknown>;
  const blobPath = ({ digest, size }: Descriptor): string => {
    const path = `blobs/sha256/${digest.slice(7)}`;
    const bytes = readFileSync(join(into, path));
    if (`sha256:${sha256(bytes)}` !== digest || bytes.length !== size)
      throw new Error(`blob ${digest} is not what it says`);
    return path;
  };
  const [manifestAt] = json('index.json')['manifests'] as Descriptor[];
  const manifest = json(blobPath(manifestAt!)) as { config: Descriptor; layers: Descriptor[] };
  const config = json(blobPath(manifest.config));
  const layer = join(into, blobPath(manifest.layers[0]!));
  return { layout: json('oci-layout'), index: manifestAt!, manifest, config, layer };
}

void t.test('an archive from end to end', async (t) => {
  const dir = tempDir(t);
  const [disk, kernel, initrd, output] = ['disk', 'kernel', 'initrd', 'out.tar'].map((name) =>
    join(dir, name),
  ) as [string, string, string, string];
  fixedDisk(disk);
  fixedKernel(kernel);
  writeFileSync(initrd, 'initramfs');
  const progress: PackProgress[] = [];
  const host = new WatchedHost();
  const options = { ...PLAIN, disk, output, kernel, initrd, cmdline: 'console=ttyS0 quiet' };
  const result = await packImage(host, options, { signal: never, onProgress: (p) => progress.push(p) });
  t.equal(host.openFds.size, 0);
  t.match(result, { name: 'docker.io/vm/test:1', format: 'raw', virtualSize: 3 * 2 ** 20 + 1024, output });
  t.equal(result.bytes, readFileSync(output).length);
  t.same(progress.at(-1), {
    doneBytes: 3 * 2 ** 20 + 700 + 2000 + 9,
    totalBytes: 3 * 2 ** 20 + 700 + 2000 + 9,
  });
  t.same(readdirSync(dir).sort(), ['disk', 'initrd', 'kernel', 'out.tar'], 'no draft is left');

  const { layout, index, manifest, config, layer } = unpack(output, join(dir, 'oci'));
  t.same(layout, { imageLayoutVersion: '1.0.0' });
  t.equal(index.digest, result.manifest);
  t.same(index.annotations, {
    'io.containerd.image.name': 'docker.io/vm/test:1',
    'org.opencontainers.image.ref.name': '1',
  });
  t.equal(manifest.layers[0]?.mediaType, 'application/vnd.oci.image.layer.v1.tar');
  t.match(config, {
    architecture: 'amd64',
    os: 'linux',
    config: {
      Cmd: ['vm'],
      Labels: {
        'io.vmshim.kernel': '/boot/vmlinuz',
        'io.vmshim.initrd': '/boot/initrd.img',
        'io.vmshim.cmdline': 'console=ttyS0 quiet',
      },
    },
    rootfs: { type: 'layers', diff_ids: [result.layer] },
  });
  const listing = tar('tvf', layer, '--full-time', '--numeric-owner');
  t.same(
    listing
      .trimEnd()
      .split('\n')
      .map((line) => line.replaceAll(/ +/g, ' ')),
    [
      'drwxr-xr-x 0/0 0 1970-01-01 00:00:00 disk/',
      '-r--r--r-- 0/0 3146428 1970-01-01 00:00:00 disk/disk.img',
      '-r--r--r-- 0/0 80 1970-01-01 00:00:00 disk.sha256',
      'drwxr-xr-x 0/0 0 1970-01-01 00:00:00 boot/',
      '-r--r--r-- 0/0 2000 1970-01-01 00:00:00 boot/vmlinuz',
      '-r--r--r-- 0/0 9 1970-01-01 00:00:00 boot/initrd.img',
    ],
  );

  const rootfs = join(dir, 'rootfs');
  mkdirSync(rootfs);
  tar('xf', layer, '-C', rootfs);
  t.ok(readFileSync(join(rootfs, 'disk/disk.img')).equals(readFileSync(disk)));
  execFileSync('sha256sum', ['-c', '--quiet', 'disk.sha256'], { cwd: rootfs });
  const image = findImageDisk(host, rootfs, 'required');
  t.match(image, {
    path: '/disk/disk.img',
    format: 'raw',
    checksum: `${sha256(readFileSync(disk))}  disk/disk.img\n`,
  });
  using stack = new DisposableStack();
  stack.use(image.fd);
  stack.use(openImageKernel(host, rootfs, '/boot/vmlinuz'));
  stack.use(openImageInitrd(host, rootfs, '/boot/initrd.img'));
});

void t.test('golden digests: the same input gives these bytes, always', async (t) => {
  const dir = tempDir(t);
  const disk = join(dir, 'disk');
  fixedDisk(disk);
  const first = await pack({ disk, output: join(dir, '1.tar') });
  const second = await pack({ disk, output: join(dir, '2.tar') });
  t.ok(readFileSync(join(dir, '1.tar')).equals(readFileSync(join(dir, '2.tar'))));
  t.equal(first.manifest, second.manifest);
  t.equal(first.layer, 'sha256:d28559cce4c5ca146d792d0a5e0c59194d5b2379c297969f350279da10504492');
  t.equal(first.manifest, 'sha256:843af291cf57e3a1546c6e883eb851eb3e6fdb5d5b4d92645c6ab55c29131aa5');
});

void t.test('compressed layers hold the same tar', async (t) => {
  const dir = tempDir(t);
  const disk = join(dir, 'disk');
  fixedDisk(disk);
  const plain = await pack({ disk, output: join(dir, 'none.tar') });
  for (const [compress, tool] of [
    ['gzip', 'gzip'],
    ['zstd', 'zstd'],
  ] as const) {
    const output = join(dir, `${compress}.tar`);
    await pack({ disk, output, compress });
    await pack({ disk, output: `${output}.again`, compress });
    t.ok(readFileSync(output).equals(readFileSync(`${output}.again`)), 'reproducible');
    const { manifest, config, layer } = unpack(output, join(dir, compress));
    t.equal(manifest.layers[0]?.mediaType, `application/vnd.oci.image.layer.v1.tar+${compress}`);
    t.match(config, { rootfs: { diff_ids: [plain.layer] } });
    const bytes = execFileSync(tool, ['-dc'], { input: readFileSync(layer), maxBuffer: 2 ** 26 });
    t.equal(`sha256:${sha256(bytes)}`, plain.layer);
  }
});

void t.test('a qcow2 keeps its format', async (t) => {
  const dir = tempDir(t);
  const disk = join(dir, 'disk');
  makeQcow2(disk);
  const output = join(dir, 'out.tar');
  t.match(await pack({ disk, output }), { format: 'qcow2', virtualSize: 64 * 2 ** 20 });
  const { layer, config } = unpack(output, join(dir, 'oci'));
  t.match(tar('tf', layer), 'disk/disk.qcow2');
  t.same(config['config'], { Cmd: ['vm'] });
});

void t.test('what no VM could boot is not packed', async (t) => {
  const dir = tempDir(t);
  const disk = join(dir, 'disk');
  const output = join(dir, 'out.tar');
  for (const { what, make, says } of [...FOREIGN_FORMATS, ...HOSTILE_QCOW2]) {
    make(disk);
    await t.rejects(
      pack({ disk, output }),
      { kind: 'InvalidArgument', message: what === 'an empty file' ? /is empty/ : says },
      what,
    );
  }
  t.notOk(readdirSync(dir).some((name) => name.startsWith('out.tar')));
});

void t.test('a file that is no disk is packed only with a kernel to boot it', async (t) => {
  const dir = tempDir(t);
  const [disk, kernel, output] = [join(dir, 'README.md'), join(dir, 'kernel'), join(dir, 'out.tar')];
  writeFileSync(disk, '# Not a disk\n'.repeat(100));
  fixedKernel(kernel);
  const message =
    /README.md" is refused: it is neither a qcow2 image nor a raw disk with a boot sector.*kernel/;
  await t.rejects(pack({ disk, output }), { kind: 'InvalidArgument', message });
  t.match(await pack({ disk, output, kernel }), { format: 'raw' }, 'a bare file system is one');
});

void t.test('wrong options', async (t) => {
  const dir = tempDir(t);
  const disk = join(dir, 'disk');
  const kernel = join(dir, 'kernel');
  makeRaw(disk);
  fixedKernel(kernel);
  const output = join(dir, 'out.tar');
  const cases: [Partial<ImagePackOptions>, string, RegExp][] = [
    [{ disk: join(dir, 'none') }, 'NotFound', /none/],
    [{ disk: dir }, 'InvalidArgument', /is a directory; give a regular file/],
    [{ disk: '/dev/zero' }, 'InvalidArgument', /is a char-device/],
    [{ initrd: disk }, 'InvalidArgument', /--initrd is given without --kernel/],
    [{ cmdline: 'quiet' }, 'InvalidArgument', /--cmdline is given without --kernel/],
    [{ kernel: disk }, 'InvalidArgument', /is no Linux kernel; give a bzImage/],
    [{ kernel, cmdline: 'a\nb' }, 'InvalidArgument', /--cmdline "a\\nb" has control characters/],
    [{ kernel, cmdline: 'x'.repeat(2048) }, 'InvalidArgument', /2048 bytes and more/],
    [{ output: `${dir}/./disk` }, 'InvalidArgument', /is one of the files to pack/],
    [{ output: join(dir, 'none', 'x') }, 'NotFound', /none\/x/],
    [{ name: 'Upper/Case' }, 'InvalidArgument', /image name/],
  ];
  for (const [wrong, kind, message] of cases)
    await t.rejects(pack({ disk, output, ...wrong }), { kind, message }, String(message));
  t.same(readdirSync(dir).sort(), ['disk', 'kernel']);
});

void t.test('cancellation and a shrinking disk leave the earlier archive alone', async (t) => {
  const dir = tempDir(t);
  const disk = join(dir, 'disk');
  fixedDisk(disk);
  const output = join(dir, 'out.tar');
  writeFileSync(output, 'earlier');
  const controller = new AbortController();
  const onProgress = ({ doneBytes }: PackProgress): void => {
    if (doneBytes > 2 ** 20) controller.abort();
  };
  const canceled = packImage(
    new WatchedHost(),
    { ...PLAIN, disk, output },
    { signal: controller.signal, onProgress },
  );
  await t.rejects(canceled, { kind: 'Canceled', message: /canceled/ });

  class ShrinkingHost extends WatchedHost {
    override readBytes(fd: number, offset: number, length: number): Buffer {
      return offset === 2 ** 20 ? Buffer.alloc(0) : super.readBytes(fd, offset, length);
    }
  }
  const host = new ShrinkingHost();
  const shrunk = packImage(host, { ...PLAIN, disk, output }, { signal: never, onProgress: () => undefined });
  await t.rejects(shrunk, { kind: 'FailedPrecondition', message: /became shorter while it was packed/ });
  t.equal(host.openFds.size, 0);

  class FullHost extends WatchedHost {
    override writeBytes(): void {
      throw new Error('no space');
    }
  }
  const full = packImage(
    new FullHost(),
    { ...PLAIN, disk, output },
    { signal: never, onProgress: () => undefined },
  );
  await t.rejects(full, { message: 'no space' });

  t.equal(readFileSync(output, 'utf8'), 'earlier');
  t.same(readdirSync(dir).sort(), ['disk', 'out.tar']);
  await pack({ disk, output });
  t.match(tar('tf', output), 'index.json');
});

void t.test('a layer above 8 GiB has a header that tar understands', async (t) => {
  const block = await tarHeaderBlock(fileEntry('blobs/sha256/x', 50 * 2 ** 30));
  t.equal(block.length, 512);
  t.equal(block.readUInt8(124), 0x80, 'base-256 size');
  t.equal(block.readBigUInt64BE(128), BigInt(50 * 2 ** 30));
});

void t.test('image names in full', (t) => {
  const cases: [string, string][] = [
    ['debian', 'docker.io/library/debian:latest'],
    ['debian:12', 'docker.io/library/debian:12'],
    ['vm/debian', 'docker.io/vm/debian:latest'],
    ['docker.io/debian:12', 'docker.io/library/debian:12'],
    ['localhost/x:1', 'localhost/x:1'],
    ['localhost:5000/x', 'localhost:5000/x:latest'],
    ['registry.example/a/b_c/d--e:V1.0_x', 'registry.example/a/b_c/d--e:V1.0_x'],
  ];
  for (const [text, full] of cases) t.equal(parseImageName(text).full, full);
  for (const text of [
    '',
    ':',
    'a:',
    'a//b',
    '/a',
    'a/',
    'A',
    'a b',
    'a:b:c/',
    'a@sha256:00',
    '-.example/x',
    'a\n',
    'x'.repeat(300),
  ]) {
    t.throws(() => parseImageName(text), { kind: 'InvalidArgument', message: /image name/ }, text);
  }
  t.end();
});
