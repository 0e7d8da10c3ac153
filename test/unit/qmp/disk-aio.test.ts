import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { chooseAio, hasIoUring } from '../../../src/qemu/disk-aio.ts';
import { tempDir } from '../../support/temp-dir.ts';

/** A host with this kernel, and a qemu-img that ends with `status` and counts its calls. */
function lab(t: Test, kernel: { release?: string; setting?: string }, status: number) {
  const root = tempDir(t);
  mkdirSync(join(root, 'proc/sys/kernel/random'), { recursive: true });
  writeFileSync(join(root, 'proc/sys/kernel/osrelease'), `${kernel.release ?? '6.1.0-13-amd64'}\n`);
  writeFileSync(join(root, 'proc/sys/kernel/random/boot_id'), 'boot-1\n');
  if (kernel.setting !== undefined)
    writeFileSync(join(root, 'proc/sys/kernel/io_uring_disabled'), `${kernel.setting}\n`);
  const qemuImg = join(root, 'qemu-img');
  const calls = join(root, 'calls');
  writeFileSync(calls, '');
  writeFileSync(qemuImg, `#!/bin/sh\necho "$@" >>${calls}\nexit ${status}\n`);
  chmodSync(qemuImg, 0o755);
  const ask = (): Promise<boolean> =>
    hasIoUring(new LinuxHost(), { qemuImg, stateDir: root, root, signal: new AbortController().signal });
  return { root, ask, calls: () => readFileSync(calls, 'utf8').split('\n').length - 1 };
}

void t.test('io_uring is tried once, by a qemu-img that opens a file with it', async (t) => {
  const works = lab(t, { setting: '0' }, 0);
  t.same([await works.ask(), await works.ask(), works.calls()], [true, true, 1]);
  writeFileSync(join(works.root, 'proc/sys/kernel/random/boot_id'), 'boot-2\n');
  t.same([await works.ask(), works.calls()], [true, 2], 'and again after a boot');
  writeFileSync(join(works.root, 'io-uring.json'), 'damaged');
  t.equal(await works.ask(), true);
  const older = lab(t, {}, 0);
  t.equal(await older.ask(), true, 'a kernel before the setting');
  const without = lab(t, { setting: '0' }, 1);
  t.same([await without.ask(), await without.ask(), without.calls()], [false, false, 1]);
});

void t.test('not where the kernel keeps it from an unprivileged QEMU', async (t) => {
  for (const kernel of [{ setting: '1' }, { setting: '2' }, { release: '5.11.0' }, { release: '4.19' }]) {
    const refused = lab(t, kernel, 0);
    t.same([await refused.ask(), refused.calls()], [false, 0], JSON.stringify(kernel));
  }
});

void t.test('the real qemu-img answers', async (t) => {
  const stateDir = tempDir(t);
  const deps = { qemuImg: '/usr/bin/qemu-img', stateDir, signal: new AbortController().signal };
  t.type(await hasIoUring(new LinuxHost(), deps), 'boolean');
  rmSync(join(stateDir, 'io-uring.json'), { force: true });
});

void t.test('without it, devices past the page cache have the older interface', (t) => {
  t.equal(chooseAio(true, 'file', false), 'io_uring');
  t.equal(chooseAio(false, 'host_device', true), 'native');
  t.equal(chooseAio(false, 'host_device', false), 'threads');
  t.equal(chooseAio(false, 'file', true), 'threads');
  t.end();
});
