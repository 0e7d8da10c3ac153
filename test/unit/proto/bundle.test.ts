import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { build } from 'esbuild';
import t from 'tap';

void t.test('the codecs work in one minified CommonJS file, with 64-bit fields as numbers', async (t) => {
  const { outputFiles } = await build({
    stdin: {
      contents: `import { google } from '#wire';
        const { Timestamp } = google.protobuf;
        const bytes = Timestamp.encode({ seconds: -7, nanos: 8 }).finish();
        process.stdout.write(JSON.stringify(Timestamp.decode(bytes)));`,
      resolveDir: path.join(import.meta.dirname, '../../..'),
    },
    ...{ bundle: true, minify: true, write: false, platform: 'node', format: 'cjs', target: 'node20' },
  });
  const [bundle] = outputFiles;
  // From stdin, so that nothing can be resolved but what is in the bundle.
  const stdout = execFileSync(process.execPath, ['--input-type=commonjs', '-'], {
    input: bundle!.text,
    cwd: '/',
  });
  t.equal(stdout.toString(), '{"seconds":-7,"nanos":8}');
});
