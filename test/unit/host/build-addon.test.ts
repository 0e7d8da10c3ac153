import { spawnSync } from 'node:child_process';
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import t from 'tap';
import { buildAddon } from '../../../scripts/build-addon.ts';
import { tempDir } from '../../support/temp-dir.ts';

const root = join(import.meta.dirname, '../../..');

void t.test('builds once, and the same bytes every time', (t) => {
  const one = tempDir(t);
  const two = tempDir(t);
  const first = buildAddon({ outDir: one });
  t.strictSame(first, { path: join(one, 'vmshim.node'), built: true });
  t.strictSame(buildAddon({ outDir: one }), { path: first.path, built: false });
  const second = buildAddon({ outDir: join(two, 'not/there') });
  t.ok(readFileSync(first.path).equals(readFileSync(second.path)));
  t.strictSame(readdirSync(one), ['vmshim.node'], 'leaves no temporary file');

  writeFileSync(first.path, 'made from other sources');
  t.equal(buildAddon({ outDir: one }).built, true);
  t.end();
});

void t.test('says in one sentence what is missing, and leaves nothing', (t) => {
  const outDir = tempDir(t);
  t.throws(() => buildAddon({ outDir, compiler: '/nonexistent/cc' }), { message: /gcc and libc6-dev\.$/ });
  t.throws(() => buildAddon({ outDir, compiler: '/bin/false' }), { message: /ended with status 1/ });
  t.strictSame(readdirSync(outDir), []);
  t.end();
});

void t.test(
  'a CommonJS bundle finds the addon beside itself, and says so when it is not there',
  async (t) => {
    const dir = tempDir(t);
    await build({
      stdin: {
        contents: `import { loadNative } from './src/host/native.ts';
        try { console.log(loadNative().sourceHash.length) } catch (error) { console.log(error.kind, error.message) }`,
        resolveDir: root,
      },
      bundle: true,
      platform: 'node',
      format: 'cjs',
      outfile: join(dir, 'bundle.cjs'),
      logLevel: 'error',
    });
    const run = (): string =>
      spawnSync(process.execPath, [join(dir, 'bundle.cjs')], { encoding: 'utf8' }).stdout;
    t.match(run(), new RegExp(`^FailedPrecondition the native addon vmshim.node is not in ${dir} or `));
    copyFileSync(buildAddon().path, join(dir, 'vmshim.node'));
    t.equal(run(), '64\n');
    writeFileSync(join(dir, 'vmshim.node'), 'broken');
    t.match(run(), /^FailedPrecondition the native addon .* cannot be loaded by Node v/);
  },
);
