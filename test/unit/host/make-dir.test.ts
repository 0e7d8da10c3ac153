import { mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeDir } from '../../../src/host/make-dir.ts';
import { loadNative } from '../../../src/host/native.ts';
import { tempDir } from '../../support/temp-dir.ts';

const MS_RDONLY = 1;
const MS_REMOUNT = 32;
const MS_BIND = 4096;
const MNT_DETACH = 2;

void t.test('every missing parent gets the mode, whatever the umask; existing ones keep theirs', (t) => {
  const dir = tempDir(t);
  mkdirSync(join(dir, 'old'), { mode: 0o711 });
  const umask = process.umask(0o077);
  try {
    makeDir(join(dir, 'old/a/b'), 0o755);
  } finally {
    process.umask(umask);
  }
  makeDir(join(dir, 'old'), 0o700);
  const mode = (path: string): number => statSync(join(dir, path)).mode & 0o7777;
  t.strictSame(['old', 'old/a', 'old/a/b'].map(mode), [0o711, 0o755, 0o755]);
  symlinkSync('old/a', join(dir, 'link'));
  makeDir(join(dir, 'link'), 0o700);
  t.equal(mode('old/a'), 0o755);
  t.end();
});

void t.test('what cannot be made says why', (t) => {
  const dir = tempDir(t);
  writeFileSync(join(dir, 'file'), '');
  symlinkSync('nowhere', join(dir, 'dangling'));
  const native = loadNative();
  const readOnly = join(dir, 'read-only');
  mkdirSync(readOnly);
  native.mount(readOnly, readOnly, 'none', MS_BIND, '');
  t.teardown(() => native.umount(readOnly, MNT_DETACH));
  native.mount(readOnly, readOnly, 'none', MS_BIND | MS_REMOUNT | MS_RDONLY, '');

  t.throws(() => makeDir(join(dir, 'file'), 0o700), { name: 'VmError', kind: 'AlreadyExists' });
  t.throws(() => makeDir(join(dir, 'dangling'), 0o700), { name: 'VmError', kind: 'AlreadyExists' });
  t.throws(() => makeDir(join(dir, 'file/sub/deep'), 0o700), {
    kind: 'NotFound',
    message: /not a directory/,
  });
  t.throws(() => makeDir(join(readOnly, 'sub/deep'), 0o700), {
    kind: 'FailedPrecondition',
    message: /read-only/,
  });
  // Node's own recursive mkdir never comes back from this one.
  t.throws(() => makeDir('/proc/vmshim/sub', 0o700), { name: 'VmError', kind: 'NotFound' });
  t.end();
});
