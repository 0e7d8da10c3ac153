import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { VmError } from '../../src/core/errors.ts';
import { findImageDisk } from '../../src/storage/image-disk.ts';
import { HEADER_BYTES, parseQcow2Header } from '../../src/storage/qcow2-header.ts';
import {
  ensureOverlay,
  planRootDisk,
  type RootDisk,
  type RootDiskPlan,
} from '../../src/storage/root-disk.ts';
import { makeQcow2 } from '../support/hostile-images.ts';
import { tempDir } from '../support/temp-dir.ts';
import { WatchedHost } from '../unit/storage/support/watched-host.ts';
import { tempRootfs } from '../unit/storage/support/temp-rootfs.ts';

const MIB = 2 ** 20;
const NOBODY = 65_534;

/** An overlay and its base as blockdevs that name each other and never use a name from a header. */
function blockdev(overlay: string, base: { file: string; format: string }): object {
  const backing = { driver: base.format, file: { driver: 'file', filename: base.file }, 'read-only': true };
  return { driver: 'qcow2', file: { driver: 'file', filename: overlay }, backing };
}

function qemuIo(disk: object, ...commands: string[]): string {
  const args = commands.flatMap((command) => ['-c', command]);
  return execFileSync('qemu-io', [...args, `json:${JSON.stringify(disk)}`], { encoding: 'utf8' });
}

async function ensure(
  host: WatchedHost,
  plan: RootDiskPlan,
  rootfs: string,
  rootDiskBytes: number,
): Promise<RootDisk> {
  const image = findImageDisk(host, rootfs, 'required');
  try {
    return await ensureOverlay(host, plan, image, { rootDiskBytes, direct: true });
  } finally {
    image.fd[Symbol.dispose]();
  }
}

void t.test('a guest’s writes live through restarts and growth, and never reach the image', async (t) => {
  for (const format of ['qcow2', 'raw']) {
    const host = new WatchedHost();
    const rootfs = tempRootfs(t);
    const base = join(rootfs, 'disk', 'base.img');
    execFileSync('qemu-img', ['create', '-q', '-f', format, base, '16M']);
    execFileSync('qemu-io', ['-f', format, '-c', 'write -P 0x11 0 1M', base]);
    const original = readFileSync(base);
    const place = {
      bundleRootfs: rootfs,
      dataDir: rootfs,
      id: 'c1',
      namespace: 'default',
      nodeKey: 'ab'.repeat(32),
    };
    const plan = planRootDisk({ kind: 'container' }, place);
    const disk = blockdev(plan.overlay, { file: base, format });

    const open = async (size: number, change: string): Promise<void> => {
      const { overlay, base: image, ...made } = await ensure(host, plan, rootfs, size);
      t.match(made, { change, virtualSize: size }, `${format} ${change}`);
      overlay[Symbol.dispose]();
      image[Symbol.dispose]();
    };
    await open(32 * MIB, 'created');
    qemuIo(disk, 'read -P 0x11 0 1M', 'write -P 0x22 512k 1M', 'write -P 0x33 31M 1M');
    await open(32 * MIB, 'kept');
    await open(2048 * MIB, 'grown');
    const output = qemuIo(
      disk,
      'read -P 0x11 0 512k',
      'read -P 0x22 512k 1M',
      'read -P 0x33 31M 1M',
      'read -P 0 1G 1M',
    );
    t.notMatch(output, /verification failed|error/i);
    const check = { driver: 'qcow2', file: { driver: 'file', filename: plan.overlay }, backing: null };
    t.match(
      execFileSync('qemu-img', ['check', `json:${JSON.stringify(check)}`], { encoding: 'utf8' }),
      'No errors',
    );
    t.ok(readFileSync(base).equals(original), 'the image is as it was');
    t.equal(host.openFds.size, 0);
  }
});

void t.test('QEMU runs on the descriptors alone, as another user', async (t) => {
  const host = new WatchedHost();
  const rootfs = tempRootfs(t);
  const dataDir = tempDir(t);
  makeQcow2(join(rootfs, 'disk', 'base.img'));
  const place = { bundleRootfs: rootfs, dataDir, id: 'c1', namespace: 'default', nodeKey: 'ab'.repeat(32) };
  const disk = await ensure(host, planRootDisk({ kind: 'container' }, place), rootfs, 128 * MIB);
  const nodes = [
    {
      driver: 'file',
      'node-name': 'base-file',
      filename: '/dev/fdset/2',
      'read-only': true,
      cache: { direct: true },
    },
    { driver: 'qcow2', 'node-name': 'base', file: 'base-file', 'read-only': true },
    { driver: 'file', 'node-name': 'root-file', filename: '/dev/fdset/1', cache: { direct: true } },
    { driver: 'qcow2', 'node-name': 'root', file: 'root-file', backing: 'base' },
  ];
  const args = [
    '-nodefaults',
    '-S',
    '-display',
    'none',
    '-accel',
    'tcg',
    '-machine',
    'q35',
    '-m',
    '64',
    '-add-fd',
    'fd=3,set=1',
    '-add-fd',
    'fd=4,set=2',
    ...nodes.flatMap((node) => ['-blockdev', JSON.stringify(node)]),
    '-device',
    JSON.stringify({ driver: 'virtio-blk-pci', drive: 'root', bootindex: 0 }),
    '-qmp',
    'stdio',
  ];
  const qemu = spawn('qemu-system-x86_64', args, {
    uid: NOBODY,
    gid: NOBODY,
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit', disk.overlay.fd, disk.base.fd],
  });
  t.teardown(() => qemu.kill('SIGKILL'));
  const exited = once(qemu, 'exit');
  for (const execute of ['qmp_capabilities', 'query-block', 'quit'])
    qemu.stdin?.write(`${JSON.stringify({ execute })}\n`);
  const lines: string[] = [];
  for await (const line of createInterface({ input: qemu.stdout! })) lines.push(line);
  t.same(await exited, [0, null]);
  const answer = lines.find((line) => line.includes('"inserted"')) ?? '';
  t.match(JSON.parse(answer), {
    return: [
      {
        inserted: {
          'node-name': 'root',
          image: { 'virtual-size': 128 * MIB, 'backing-image': { format: 'qcow2' } },
        },
      },
    ],
  });
  for (const fd of host.openFds) fd[Symbol.dispose]();
});

void t.test('QEMU agrees that a header which passes names no other file', (t) => {
  const dir = tempDir(t);
  const path = join(dir, 'x.qcow2');
  makeQcow2(path);
  const sound = readFileSync(path);
  const size = statSync(path).size;
  let passed = 0;
  // Every byte of the header's fields and of the first extensions, set to three values.
  for (let at = 4; at < 128; at++) {
    for (const value of [0x01, 0x80, 0xff]) {
      const image = Buffer.from(sound);
      image[at] = value;
      const head = image.subarray(0, HEADER_BYTES);
      try {
        parseQcow2Header(head, { name: 'x', fileBytes: size, backing: 'refused' });
      } catch (error) {
        if (!VmError.is(error, 'InvalidArgument')) throw error;
        continue;
      }
      passed++;
      writeFileSync(path, image);
      const text = execFileSync('qemu-img', ['info', '--output=json', '-f', 'qcow2', path], {
        encoding: 'utf8',
      });
      t.notMatch(JSON.parse(text), { 'backing-filename': String }, `byte ${at} = ${value}`);
      t.notMatch(text, /data-file"|encrypted": true/, `byte ${at} = ${value}`);
    }
  }
  t.ok(passed > 10 && passed < 200, `${passed} of 372 changed headers pass`);
  t.end();
});
