/** The demo where it cannot show anything: it says why in one sentence, ends with a status, and takes everything away. */
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import t, { type Test } from 'tap';
import { tempDir } from '../support/temp-dir.ts';
import { vmImage } from '../support/vm-image.ts';

const DEMO = join(import.meta.dirname, '../../scripts/demo.ts');

/** `scripts/demo` behind its set-up, with a directory for temporary files of its own. */
async function demo(t: Test, ...args: string[]): Promise<{ status: number | undefined; text: string }> {
  const directory = tempDir(t);
  const { exitCode, all } = await execa(process.execPath, [DEMO, ...args], {
    all: true,
    reject: false,
    stdin: 'ignore',
    env: { TMPDIR: directory },
  });
  t.same(globSync(`${directory}/*`), [], 'no file is left');
  return { status: exitCode, text: all };
}

void t.test('a disk that is none', async (t) => {
  const disk = join(tempDir(t), 'noise.qcow2');
  writeFileSync(disk, `QFI\xfb${'noise'.repeat(1000)}`, 'latin1');
  const { status, text } = await demo(t, disk);
  t.equal(status, 1);
  t.match(text, /vmctl: disk image ".*noise\.qcow2" is refused: .*\n?$/);
  t.notMatch(text, /^ +at /m, 'no stack');
});

void t.test('a VM that cannot be created', async (t) => {
  await vmImage();
  const { status, text } = await demo(t, '--user-data', '/nonexistent/user-data');
  t.equal(status, 1);
  t.match(text, /^ctr: .*the volume at "\/vmshim\/guest-data\/user-data" is missing on the node; .*$/m);
  t.match(text, /nothing is left/);
  t.notMatch(text, /^ +at /m, 'no stack');
});
