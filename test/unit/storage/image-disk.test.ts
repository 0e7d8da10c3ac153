import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, rmdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { FileInfo, OwnedFd } from '../../../src/host/host.ts';
import { findImageDisk } from '../../../src/storage/image-disk.ts';
import { makeQcow2, makeRaw } from '../../support/hostile-images.ts';
import { WatchedHost } from './support/watched-host.ts';
import { tempRootfs } from './support/temp-rootfs.ts';

const refusal = (message: RegExp) => ({ kind: 'InvalidArgument', message });

void t.test('the single disk is found and opened', (t) => {
  const host = new WatchedHost();
  const rootfs = tempRootfs(t);
  makeQcow2(join(rootfs, 'disk', 'debian.img'));
  writeFileSync(join(rootfs, 'disk', '.gitkeep'), '');
  mkdirSync(join(rootfs, 'disk', 'lost+found'));
  const image = findImageDisk(host, rootfs, 'required');
  t.match(image, {
    path: '/disk/debian.img',
    format: 'qcow2',
    virtualSize: 64 * 2 ** 20,
    checksum: undefined,
  });
  t.equal(host.readBytes(image.fd.fd, 0, 3).toString('latin1'), 'QFI');
  t.equal(host.openFds.size, 1, 'only the disk stays open');
  image.fd[Symbol.dispose]();
  t.end();
});

void t.test('the packer’s checksum is read, and only from a regular file', (t) => {
  const host = new WatchedHost();
  const rootfs = tempRootfs(t);
  makeRaw(join(rootfs, 'disk', 'a'));
  writeFileSync(join(rootfs, 'disk.sha256'), 'abc  disk/a\n');
  using first = findImageDisk(host, rootfs, 'required').fd;
  t.ok(first.fd > 2);
  t.equal(findImageDisk(host, rootfs, 'required').checksum, 'abc  disk/a\n');
  rmSync(join(rootfs, 'disk.sha256'));
  symlinkSync('/etc/passwd', join(rootfs, 'disk.sha256'));
  t.equal(findImageDisk(host, rootfs, 'required').checksum, undefined);
  t.end();
});

void t.test('none and several', (t) => {
  const host = new WatchedHost();
  const rootfs = tempRootfs(t);
  t.throws(() => findImageDisk(host, rootfs, 'required'), refusal(/\/disk directory is empty/));
  t.equal(findImageDisk(host, rootfs, 'optional'), undefined);
  for (const name of ['a.img', 'b\n\u001b[31m.img', 'c', 'd', 'e', 'f']) makeRaw(join(rootfs, 'disk', name));
  const several = refusal(/holds 6 entries \("a.img", "b\\n\\u001b\[31m.img", "c", "d", "e" and 1 more\)/);
  t.throws(() => findImageDisk(host, rootfs, 'required'), several);
  t.throws(() => findImageDisk(host, rootfs, 'optional'), several);
  rmSync(join(rootfs, 'disk'), { recursive: true });
  t.throws(() => findImageDisk(host, rootfs, 'required'), refusal(/has no \/disk directory/));
  t.equal(findImageDisk(host, rootfs, 'optional'), undefined);
  t.equal(host.openFds.size, 0, 'nothing stays open');
  t.end();
});

void t.test('what is no regular file is refused without being opened', (t) => {
  const host = new WatchedHost();
  const rootfs = tempRootfs(t);
  const disk = join(rootfs, 'disk', 'x');
  symlinkSync('/etc/passwd', disk);
  t.throws(
    () => findImageDisk(host, rootfs, 'required'),
    refusal(/"\/disk\/x" in the image is a symbolic link, which is never/),
  );
  rmSync(disk);
  symlinkSync('../../../../../../etc/passwd', disk);
  t.throws(() => findImageDisk(host, rootfs, 'required'), refusal(/symbolic link/));
  rmSync(disk);
  execFileSync('mkfifo', [disk]);
  t.throws(() => findImageDisk(host, rootfs, 'required'), refusal(/is a fifo/));
  rmSync(disk);
  mkdirSync(disk);
  t.throws(() => findImageDisk(host, rootfs, 'required'), refusal(/is a directory/));
  t.equal(host.openFds.size, 0);
  t.end();
});

/** A host that is told another kind for one entry than it has. */
class MistakenHost extends WatchedHost {
  readonly #kind: FileInfo['kind'];
  readonly opened: string[] = [];

  constructor(kind: FileInfo['kind']) {
    super();
    this.#kind = kind;
  }

  override inspect(path: string): FileInfo | undefined {
    const info = super.inspect(path);
    return info !== undefined && path.endsWith('/x') ? { ...info, kind: this.#kind } : info;
  }

  override open(path: string, flags: number, mode?: number): OwnedFd {
    this.opened.push(path);
    return super.open(path, flags, mode);
  }
}

void t.test('a device node is refused without being opened', (t) => {
  const rootfs = tempRootfs(t);
  makeRaw(join(rootfs, 'disk', 'x'));
  for (const kind of ['block-device', 'char-device'] as const) {
    const host = new MistakenHost(kind);
    t.throws(() => findImageDisk(host, rootfs, 'required'), refusal(new RegExp(`is a ${kind}`)));
    t.notOk(host.opened.some((path) => path.endsWith('/x')));
  }
  t.end();
});

void t.test('an entry that changes between the look and the open is still refused', (t) => {
  const rootfs = tempRootfs(t);
  execFileSync('mkfifo', [join(rootfs, 'disk', 'x')]);
  const host = new MistakenHost('file');
  t.throws(() => findImageDisk(host, rootfs, 'required'), refusal(/is a fifo/));
  t.equal(host.openFds.size, 0);
  t.end();
});

void t.test('/disk itself may not be a link', (t) => {
  const host = new WatchedHost();
  const rootfs = tempRootfs(t);
  rmdirSync(join(rootfs, 'disk'));
  symlinkSync('/etc', join(rootfs, 'disk'));
  t.throws(
    () => findImageDisk(host, rootfs, 'required'),
    refusal(/"\/disk" in the image is a symbolic link/),
  );
  t.throws(() => findImageDisk(host, rootfs, 'optional'), refusal(/symbolic link/));
  rmSync(join(rootfs, 'disk'));
  makeRaw(join(rootfs, 'disk'));
  t.throws(() => findImageDisk(host, rootfs, 'required'), refusal(/"\/disk" in the image is a file/));
  t.end();
});

void t.test('a refused image leaves no descriptor', (t) => {
  const host = new WatchedHost();
  const rootfs = tempRootfs(t);
  writeFileSync(join(rootfs, 'disk', 'x'), '');
  t.throws(() => findImageDisk(host, rootfs, 'required'), refusal(/"\/disk\/x" is refused: it is empty/));
  t.equal(host.openFds.size, 0);
  t.end();
});
