import { execFileSync } from 'node:child_process';
import { openSync, readFileSync, closeSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { readImageProbe } from '../../../src/storage/disk-image.ts';
import { probeForeignDisk } from '../../../src/storage/foreign-disk.ts';
import { HOSTILE_QCOW2, makeQcow2, makeRaw } from '../../support/hostile-images.ts';
import { tempDir } from '../../support/temp-dir.ts';

const host = new LinuxHost();

function probe(path: string): string | undefined {
  const fd = openSync(path, 'r');
  try {
    return probeForeignDisk(readImageProbe(host, fd, '"x"'));
  } finally {
    closeSync(fd);
  }
}

function create(path: string, format: string, ...options: string[]): void {
  execFileSync('qemu-img', ['create', '-q', '-f', format, ...options, path, '64M']);
}

void t.test('formats by their contents, as qemu-img writes them', (t) => {
  const path = join(tempDir(t), 'disk');
  const cases: [string, string, ...string[]][] = [
    ['vmdk', 'vmdk'],
    ['vmdk', 'vmdk', '-o', 'subformat=streamOptimized'],
    ['vhdx', 'vhdx'],
    ['vhdx', 'vhdx', '-o', 'subformat=fixed'],
    ['vpc', 'vpc'],
    ['vpc', 'vpc', '-o', 'subformat=fixed'],
    ['vdi', 'vdi'],
    ['vdi', 'vdi', '-o', 'static=on'],
  ];
  for (const [driver, format, ...options] of cases) {
    create(path, format, ...options);
    t.equal(probe(path), driver, [format, ...options].join(' '));
  }
  makeQcow2(path);
  t.equal(probe(path), undefined);
  makeRaw(path);
  t.equal(probe(path), undefined);
  HOSTILE_QCOW2[0]!.make(path);
  t.equal(probe(path), undefined, 'qcow2 is judged elsewhere');
  for (const bytes of ['', 'K', 'KDM', 'x'.repeat(100)]) {
    writeFileSync(path, bytes);
    t.equal(probe(path), undefined);
  }
  t.end();
});

void t.test('images that lead to other files are refused before QEMU sees them', (t) => {
  const path = join(tempDir(t), 'disk');
  const vmdk = (change: (image: Buffer) => void) => (): void => {
    create(path, 'vmdk');
    const image = readFileSync(path);
    change(image);
    writeFileSync(path, image);
  };
  const text = (from: RegExp, to: string) =>
    vmdk((image) => {
      const descriptor = image.toString('latin1', 512, 512 + 10_240).replace(/\0+$/, '');
      if (!from.test(descriptor)) throw new Error(`no ${String(from)} in ${descriptor}`);
      image.fill(0, 512, 512 + 10_240).write(descriptor.replace(from, to), 512, 'latin1');
    });
  const typed =
    (format: string, at: (image: Buffer) => void, ...options: string[]) =>
    () => {
      create(path, format, ...options);
      const image = readFileSync(path);
      at(image);
      writeFileSync(path, image);
    };
  const cases: [string, () => void, RegExp][] = [
    [
      'a flat extent',
      text(/^RW \d+ SPARSE .*$/m, 'RW 131072 FLAT "/etc/passwd" 0'),
      /extents are "RW 131072 FLAT/,
    ],
    ['two extents', text(/^(RW .*)$/m, '$1\nRW 131072 SPARSE "/etc/shadow"'), /extents are .*shadow/],
    ['a second extent in capitals', text(/^(RW .*)$/m, '$1\n  rw 1 FLAT "/etc/passwd"'), /extents are/],
    ['a read-only extent', text(/^RW /m, 'RDONLY '), /extents are/],
    ['no extent', text(/^RW .*$/m, ''), /extents are ""/],
    ['type monolithicFlat', text(/monolithicSparse/, 'monolithicFlat'), /createType is "monolithicFlat"/],
    ['no type', text(/createType=.*/, ''), /createType is ""/],
    [
      'a parent',
      text(/parentCID=ffffffff/, 'parentCID=12345678\nparentFileNameHint="/etc/passwd"'),
      /snapshot \("parentFileNameHint=.*\/etc\/passwd/,
    ],
    [
      'a parent’s name alone',
      text(/^(CID=.*)$/m, '$1\nparentFileNameHint="x"'),
      /snapshot \("parentFileNameHint=/,
    ],
    [
      'a parent in a comment',
      text(/^(CID=.*)$/m, '$1\n# parentFileNameHint="/etc/passwd"'),
      /snapshot \("parentFileNameHint=/,
    ],
    ['a parent’s id alone', text(/parentCID=ffffffff/, 'parentCID=0'), /snapshot \("parentCID=0"\)/],
    [
      'no capacity, so that the descriptor is the image',
      vmdk((image) => void image.writeBigUInt64LE(0n, 12)),
      /capacity 0/,
    ],
    ['a descriptor elsewhere', vmdk((image) => void image.writeBigUInt64LE(2n, 28)), /descriptor 2/],
    ['a differencing VHD', typed('vpc', (image) => void image.writeUInt32BE(4, 60)), /differencing VHD/],
    ['an unknown VHD', typed('vpc', (image) => void image.writeUInt32BE(0, 60)), /VHD type is 0/],
    ['a differencing VDI', typed('vdi', (image) => void image.writeUInt32LE(4, 0x4c)), /differencing VDI/],
    ['an unknown VDI', typed('vdi', (image) => void image.writeUInt32LE(9, 0x4c)), /VDI type is 9/],
    [
      'a cut VMDK',
      () => {
        create(path, 'vmdk');
        truncateSync(path, 5000);
      },
      /VMDK header is cut off/,
    ],
  ];
  for (const [what, make, message] of cases) {
    make();
    t.throws(() => probe(path), { kind: 'InvalidArgument', message }, what);
  }
  t.end();
});
