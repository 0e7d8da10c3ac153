import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildAddon } from '../../../scripts/build-addon.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { loadNative } from '../../../src/host/native.ts';
import { tempDir } from '../../support/temp-dir.ts';

buildAddon();
const native = loadNative();
const host = new LinuxHost();
const MS_BIND = 4096;

void t.test('everything in it goes, and links do not lead out', (t) => {
  const dir = tempDir(t);
  const keep = join(dir, 'keep');
  mkdirSync(keep);
  writeFileSync(join(keep, 'disk'), 'precious');
  const tree = join(dir, 'tree');
  mkdirSync(join(tree, 'a/b'), { recursive: true });
  writeFileSync(join(tree, 'a/b/file'), '');
  symlinkSync(keep, join(tree, 'a/link'));
  symlinkSync('/nonexistent', join(tree, 'dangling'));
  host.removeTree(tree);
  t.notOk(existsSync(tree));
  t.equal(readFileSync(join(keep, 'disk'), 'utf8'), 'precious');

  symlinkSync(keep, tree);
  host.removeTree(tree);
  t.notOk(existsSync(tree), 'a link as the top is removed itself');
  t.equal(readFileSync(join(keep, 'disk'), 'utf8'), 'precious');
  host.removeTree(tree);
  host.removeTree('/nonexistent/path');
  t.end();
});

void t.test(
  'a mount in the tree is not entered, be it another file system or a bind mount of the same',
  (t) => {
    const dir = tempDir(t);
    const volume = join(dir, 'volume');
    const tree = join(dir, 'the tree');
    const tmpfs = join(tree, 'x/tmpfs');
    const bind = join(tree, 'x/bind');
    for (const path of [volume, tmpfs, bind]) mkdirSync(path, { recursive: true });
    writeFileSync(join(volume, 'disk'), 'precious');
    writeFileSync(join(tree, 'x/file'), '');
    writeFileSync(join(tree, 'z'), '');
    native.mount('none', tmpfs, 'tmpfs', 0, null);
    native.mount(volume, bind, null, MS_BIND, null);
    try {
      writeFileSync(join(tmpfs, 'disk'), 'precious');
      t.throws(() => host.removeTree(tree), {
        kind: 'FailedPrecondition',
        message: `cannot remove ${tree}: something is mounted on ${bind}, ${tmpfs}; unmount it first`,
      });
      t.equal(readFileSync(join(volume, 'disk'), 'utf8'), 'precious');
      t.equal(readFileSync(join(tmpfs, 'disk'), 'utf8'), 'precious');
      t.notOk(existsSync(join(tree, 'x/file')), 'the rest is gone');
      t.notOk(existsSync(join(tree, 'z')));
      t.throws(
        () => host.removeTree(bind),
        { name: 'VmError', kind: 'FailedPrecondition' },
        'nor is a mount as the top',
      );
    } finally {
      native.umount(bind, 0);
      native.umount(tmpfs, 0);
    }
    host.removeTree(tree);
    t.notOk(existsSync(tree));
    t.end();
  },
);
