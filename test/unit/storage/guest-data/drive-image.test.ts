import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { LinuxHost } from '../../../../src/host/linux-host.ts';
import { driveImage } from '../../../../src/storage/guest-data/drive-image.ts';
import { fatImage } from '../../../../src/storage/guest-data/fat-image.ts';
import { fileTree } from '../../../../src/storage/guest-data/file-tree.ts';
import type { DriveFile } from '../../../../src/storage/guest-data/guest-data.ts';
import { isoImage } from '../../../../src/storage/guest-data/iso-image.ts';
import { openstackFiles } from '../../../../src/storage/guest-data/openstack-files.ts';
import type { SparseImage } from '../../../../src/storage/guest-data/sparse-image.ts';
import { writeImage } from '../../../../src/storage/guest-data/write-image.ts';
import { tempDir } from '../../../support/temp-dir.ts';
import { full } from './sample-data.ts';

const host = new LinuxHost();
// dosfstools and util-linux are for root, who finds them without help.
const env = { ...process.env, LC_ALL: 'C.UTF-8', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
let images = 0;

function run(file: string, ...args: string[]): string {
  return execFileSync(file, args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'pipe'] });
}

function write(directory: string, image: SparseImage): string {
  const path = join(directory, `drive-${images++}.img`);
  writeImage(host, path, image)[Symbol.dispose]();
  return path;
}

/** What a program that is not ours finds in an image, by path. */
function readBack(image: string, kind: 'vfat' | 'iso9660'): Map<string, Buffer> {
  const target = `${image}.d`;
  mkdirSync(target);
  if (kind === 'vfat') run('mcopy', '-s', '-n', '-i', image, '::*', target);
  else run('bsdtar', '-xf', image, '-C', target);
  const found = readdirSync(target, { recursive: true, encoding: 'utf8' }).filter((path) =>
    statSync(join(target, path)).isFile(),
  );
  return new Map(found.map((path) => [path, readFileSync(join(target, path))]));
}

function same(found: ReadonlyMap<string, Buffer>, files: readonly DriveFile[]): boolean {
  const whole = files.every(({ path, content }) => found.get(path)?.equals(content) === true);
  return whole && found.size === files.length;
}

function check(t: Test, directory: string, files: readonly DriveFile[], message: string): void {
  const tree = fileTree(files);
  const fat = write(directory, fatImage(tree, { label: 'config-2', serial: 0xfedcba98 }));
  t.match(run('fsck.vfat', '-n', fat), /\d+ files/);
  t.ok(same(readBack(fat, 'vfat'), files), `${message}, from vfat`);
  const iso = write(directory, isoImage(tree, 'config-2'));
  t.ok(same(readBack(iso, 'iso9660'), files), `${message}, from ISO 9660`);
}

void t.test('other programs read every file of a config drive back', (t) => {
  check(t, tempDir(t), openstackFiles(full), 'a config drive');
  t.end();
});

void t.test('and find its label where each system looks for it', (t) => {
  const directory = tempDir(t);
  const labels = { 'config-drive': 'config-2', 'config-drive-iso': 'config-2', nocloud: 'cidata' } as const;
  for (const [kind, label] of Object.entries(labels)) {
    const image = write(directory, driveImage({ ...full, kind: kind as keyof typeof labels }));
    const type = kind === 'config-drive-iso' ? 'iso9660' : 'vfat';
    const probed = run('blkid', '-p', '-o', 'export', image);
    t.match(probed, `LABEL=${label}\n`);
    t.match(probed, `TYPE=${type}\n`);
    t.notMatch(probed, 'PTTYPE', 'no partition table');
    if (type === 'vfat')
      t.match(run('mlabel', '-s', '-i', image, '::').trimEnd(), new RegExp(`is ${label}$`));
  }
  t.end();
});

void t.test('a superfloppy as Windows wants it', (t) => {
  const image = write(tempDir(t), driveImage(full));
  t.equal(statSync(image).size, 64 << 20);
  t.ok(statSync(image).blocks * 512 < 1 << 20, 'sparse');
  t.equal(statSync(image).mode & 0o777, 0o600);
  const bytes = readFileSync(image);
  t.equal(bytes.readUInt16LE(510), 0xaa55);
  t.equal(bytes.toString('latin1', 43, 54), 'config-2   ', 'the label in the boot sector');
  t.equal(bytes.toString('latin1', 54, 62), 'FAT16   ');
  t.same([...bytes.subarray(446, 510)], Array<number>(64).fill(0), 'nothing that a partition table could be');
  const rootAt = (bytes.readUInt16LE(14) + 2 * bytes.readUInt16LE(22)) * 512;
  t.equal(bytes.toString('latin1', rootAt, rootAt + 11), 'config-2   ', 'and in the root directory');
  t.equal(bytes[rootAt + 11], 0x08);
  t.same(driveImage(full), driveImage(full), 'equal data, equal bytes');
  t.end();
});

void t.test('large and odd files', (t) => {
  const directory = tempDir(t);
  const odd: DriveFile[] = [
    { path: 'empty', content: Buffer.alloc(0) },
    { path: 'a/cluster', content: Buffer.alloc(2048, 1) },
    { path: 'a/cluster and a byte', content: Buffer.alloc(2049, 2) },
    { path: 'a/b/c/d/e/ten.mib', content: Buffer.alloc(10 << 20, 'x\0\xff', 'latin1') },
    // More than one cluster and more than one block of entries, with short names that collide.
    ...Array.from({ length: 150 }, (_, i) => ({
      path: `many/a longer name ${i}.json`,
      content: Buffer.from([i]),
    })),
  ];
  check(t, directory, odd, 'odd files');
  const large = fatImage(fileTree([{ path: 'large', content: new Uint8Array(150 << 20) }]), {
    label: 'x',
    serial: 1,
  });
  t.ok(large.size > 150 << 20);
  t.match(run('fsck.vfat', '-n', write(directory, large)), /2 files/);
  t.end();
});

void t.test('any names and bytes come back', (t) => {
  const directory = tempDir(t);
  const name = fc
    .string({
      unit: fc.constantFrom('a', 'B', '9', '-', '_', ' ', '.', 'é', '漢', '~'),
      minLength: 1,
      maxLength: 20,
    })
    .filter((text) => !/^\.|[. ]$|^ /.test(text));
  const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
  const files = fc
    .uniqueArray(fc.record({ path, content: fc.uint8Array({ maxLength: 5000 }) }), {
      maxLength: 12,
      selector: (file) => file.path.toLowerCase().split('/')[0],
    })
    .filter((all) => all.length > 0);
  fc.assert(
    fc.property(files, (all) => {
      const tree = fileTree(all);
      const fat = write(directory, fatImage(tree, { label: 'config-2', serial: 7 }));
      run('fsck.vfat', '-n', fat);
      const iso = write(directory, isoImage(tree, 'config-2'));
      return same(readBack(fat, 'vfat'), all) && same(readBack(iso, 'iso9660'), all);
    }),
    { seed: 20261122, numRuns: 12 },
  );
  t.pass();
  t.end();
});

void t.test('names that no drive can hold are refused', (t) => {
  for (const path of ['', 'a/', '../x', 'a:b', 'nul\0', 'x'.repeat(256), 'dot.', 'a/../b'])
    t.throws(
      () => fileTree([{ path, content: Buffer.alloc(0) }]),
      { message: /name that a drive cannot hold/ },
      path,
    );
  const twice = ['A/x', 'a/X'].map((path) => ({ path, content: Buffer.alloc(0) }));
  t.throws(() => fileTree(twice), { message: /is there twice/ });
  t.throws(() => isoImage(fileTree([{ path: 'x'.repeat(65), content: Buffer.alloc(0) }]), 'x'), {
    message: /too long/,
  });
  t.end();
});

void t.test('how long it takes', (t) => {
  const directory = tempDir(t);
  const times = Array.from({ length: 20 }, () => {
    const began = performance.now();
    write(directory, driveImage(full));
    return performance.now() - began;
  });
  const middle = times.toSorted((a, b) => a - b)[10] ?? 0;
  t.comment(`config drive: first ${times[0]?.toFixed(1)} ms, then ${middle.toFixed(1)} ms`);
  t.end();
});
