import { once } from 'node:events';
import { mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
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

void t.test('two that make the same parents at once both have their directory', async (t) => {
  const directory = tempDir(t);
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const program = `
    import { workerData } from 'node:worker_threads';
    const { module, directory, flag, me } = workerData;
    const { makeDir } = await import(module);
    for (let round = 0; round < 400; round += 1) {
      // Both begin every round together.
      Atomics.add(flag, 0, 1);
      while (Atomics.load(flag, 0) < 2 * (round + 1));
      makeDir(directory + '/' + round + '/a/b/c/' + me, 0o700);
    }`;
  const module = new URL('../../../src/host/make-dir.ts', import.meta.url).href;
  const both = [0, 1].map(
    (me) =>
      new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`), {
        workerData: { module, directory, flag, me },
      }),
  );
  try {
    await Promise.all(
      both.map(async (worker) => {
        await once(worker, 'exit');
      }),
    );
  } finally {
    await Promise.all(both.map((worker) => worker.terminate()));
  }
  t.same(readdirSync(`${directory}/399/a/b/c`).toSorted(), ['0', '1']);
});
