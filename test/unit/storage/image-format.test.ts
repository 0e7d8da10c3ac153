import { openSync, closeSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readDiskImage } from '../../../src/storage/disk-image.ts';
import { FOREIGN_FORMATS, makeQcow2, makeRaw } from '../../support/hostile-images.ts';
import { WatchedHost } from './support/watched-host.ts';
import { tempDir } from '../../support/temp-dir.ts';

const host = new WatchedHost();

function read(path: string): { format: string; virtualSize: number } {
  const fd = openSync(path, 'r');
  try {
    const { format, virtualSize } = readDiskImage(host, { fd, [Symbol.dispose]: () => undefined }, 'x');
    return { format, virtualSize };
  } finally {
    closeSync(fd);
  }
}

void t.test('qcow2 and raw by contents, whatever the name', (t) => {
  const path = join(tempDir(t), 'disk.vmdk');
  makeQcow2(path);
  t.same(read(path), { format: 'qcow2', virtualSize: 64 * 2 ** 20 });
  makeRaw(path);
  t.same(read(path), { format: 'raw', virtualSize: 2 ** 20 });
  t.end();
});

void t.test('a raw file is padded to whole sectors, as QEMU does', (t) => {
  const path = join(tempDir(t), 'x');
  makeRaw(path, 1000);
  t.equal(read(path).virtualSize, 1024);
  t.end();
});

void t.test('an ISO with a boot sector is a disk', (t) => {
  const path = join(tempDir(t), 'x');
  FOREIGN_FORMATS.find(({ what }) => what === 'ISO 9660')?.make(path);
  t.throws(() => read(path), { kind: 'InvalidArgument', message: /CD-ROM/ });
  const size = statSync(path).size;
  makeRaw(path, size);
  t.equal(read(path).format, 'raw');
  t.end();
});

void t.test('foreign formats are refused', (t) => {
  const dir = tempDir(t);
  for (const [i, { what, make, says }] of FOREIGN_FORMATS.entries()) {
    const path = join(dir, String(i));
    make(path);
    t.throws(() => read(path), { kind: 'InvalidArgument', message: says }, what);
  }
  t.end();
});
