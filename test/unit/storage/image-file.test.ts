import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openImageFile } from '../../../src/storage/image-file.ts';
import { openImageInitrd, openImageKernel } from '../../../src/storage/kernel-image.ts';
import { WatchedHost } from './support/watched-host.ts';
import { tempDir } from '../../support/temp-dir.ts';

const refusal = (message: RegExp) => ({ kind: 'InvalidArgument', message });

function bzImage(): Buffer {
  const image = Buffer.alloc(1024);
  image.writeUInt16LE(0xaa55, 0x1fe);
  image.write('HdrS', 0x202);
  return image;
}

void t.test('a file of the image, by every component', (t) => {
  const host = new WatchedHost();
  const rootfs = tempDir(t);
  mkdirSync(join(rootfs, 'boot', 'deep'), { recursive: true });
  writeFileSync(join(rootfs, 'boot', 'deep', 'file'), 'hello');
  using file = openImageFile(host, rootfs, '//boot/deep//file');
  t.equal(host.readBytes(file.fd, 0, 10).toString(), 'hello');
  t.equal(host.openFds.size, 1);
  t.end();
});

void t.test('paths that could leave the image', (t) => {
  const host = new WatchedHost();
  const rootfs = tempDir(t);
  mkdirSync(join(rootfs, 'boot'));
  symlinkSync('/etc', join(rootfs, 'etc'));
  symlinkSync('/etc/passwd', join(rootfs, 'boot', 'vmlinuz'));
  const cases: [string, RegExp][] = [
    ['/boot/../../etc/passwd', /"\." or "\.\."/],
    ['/..', /"\." or "\.\."/],
    ['/boot/./x', /"\." or "\.\."/],
    ['boot/vmlinuz', /not absolute/],
    ['', /not absolute/],
    ['/', /names no file/],
    ['/boot/a\0b', /zero byte/],
    ['/etc/passwd', /"\/etc" in the image is a symbolic link/],
    ['/boot/vmlinuz', /"\/boot\/vmlinuz" in the image is a symbolic link/],
    ['/boot', /is a directory/],
  ];
  for (const [path, says] of cases) t.throws(() => openImageFile(host, rootfs, path), refusal(says), path);
  const missing = { kind: 'InvalidArgument', message: /the image has no "\/boot\/none"/ };
  t.throws(() => openImageFile(host, rootfs, '/boot/none'), missing);
  t.throws(() => openImageFile(host, rootfs, '/none/x'), {
    kind: 'InvalidArgument',
    message: /the image has no "\/none"/,
  });
  t.equal(host.openFds.size, 0);
  t.end();
});

void t.test('kernels', (t) => {
  const host = new WatchedHost();
  const rootfs = tempDir(t);
  const kernel = join(rootfs, 'k');
  for (const image of [bzImage(), Buffer.concat([Buffer.from('\x7fELF', 'latin1'), Buffer.alloc(1024)])]) {
    writeFileSync(kernel, image);
    using file = openImageKernel(host, rootfs, '/k');
    t.ok(file.fd > 2);
  }
  const cases: [Buffer, RegExp][] = [
    [Buffer.from('\x1f\x8b'.padEnd(1024, '\0'), 'latin1'), /is gzip-compressed; give a bzImage/],
    [Buffer.alloc(1024), /is no Linux kernel/],
    [Buffer.alloc(3), /has only 3 bytes/],
  ];
  for (const [image, says] of cases) {
    writeFileSync(kernel, image);
    t.throws(() => openImageKernel(host, rootfs, '/k'), refusal(says));
  }
  t.equal(host.openFds.size, 0);
  t.end();
});

void t.test('an initrd has contents', (t) => {
  const host = new WatchedHost();
  const rootfs = tempDir(t);
  writeFileSync(join(rootfs, 'i'), '');
  t.throws(() => openImageInitrd(host, rootfs, '/i'), refusal(/is empty/));
  writeFileSync(join(rootfs, 'i'), 'x');
  using file = openImageInitrd(host, rootfs, '/i');
  t.ok(file.fd > 2);
  t.end();
});
