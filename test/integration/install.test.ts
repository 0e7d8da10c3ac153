/** A newer version is installed beside running VMs: each shim keeps the program it started with, new VMs get the new one. */
import { appendFileSync, cpSync, existsSync, globSync, lstatSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import t from 'tap';
import { privateContainerd } from '../support/containerd.ts';
import { ctrRun } from '../support/ctr-run.ts';
import { processEnded } from '../support/shim-client.ts';
import { tempDir } from '../support/temp-dir.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const root = join(import.meta.dirname, '../..');
const annotations = { 'vmshim.io/memory': '96Mi' };

void t.test('two versions side by side', async (t) => {
  const prefix = tempDir(t);
  const install = async (...dist: string[]): Promise<string> =>
    (await execa(join(root, 'scripts/install'), [prefix, ...dist])).stdout;
  const versions = (): string[] => readdirSync(join(prefix, 'lib/vmshim'));
  // As from the time before each version had a directory.
  cpSync(join(root, 'dist/lib/vmshim/shim.cjs'), join(prefix, 'lib/vmshim/shim.cjs'), { recursive: true });
  await install();
  const [old = ''] = versions();
  t.match(old, /^\d+\.\d+\.\d+-[0-9a-f]{12}$/);
  t.same(versions(), [old], 'one directory, and nothing of before');
  for (const program of ['containerd-shim-vm-v2', 'vmctl', 'vm-tap'])
    t.ok(lstatSync(join(prefix, 'bin', program)).isSymbolicLink(), program);
  await install();
  t.same(versions(), [old], 'the same build once more changes nothing');

  const runtime = join(prefix, 'bin/containerd-shim-vm-v2');
  const containerd = await privateContainerd(t);
  const programOf = (id: string): string =>
    readFileSync(`/proc/${pidOf(vmRecord(containerd, id).shim)}/cmdline`, 'utf8').split('\0')[1] ?? '';
  const first = await ctrRun(containerd, 'install-old', { annotations, runtime });
  await first.console.until('vmguest: ready');

  const newer = tempDir(t);
  cpSync(join(root, 'dist'), newer, { recursive: true });
  appendFileSync(join(newer, 'lib/vmshim/vmctl.cjs'), '\n');
  t.match(await install(newer), new RegExp(`kept .*/${old}: a running VM`));
  const [fresh = ''] = versions().filter((name) => name !== old);
  const second = await ctrRun(containerd, 'install-new', { annotations, runtime });
  await second.console.until('vmguest: ready');
  t.match(programOf('install-old'), `/${old}/`);
  t.match(programOf('install-new'), `/${fresh}/`);

  // What a shim loads when it is needed, and what containerd runs for the old one's end.
  const { stdout } = await containerd.ctr('tasks', 'metrics', 'install-old');
  t.match(stdout, /ID/);
  const { shim } = vmRecord(containerd, 'install-old');
  for (const run of [first, second]) run.type('poweroff');
  t.same(await Promise.all([first.exited, second.exited]), [0, 0]);
  await processEnded(pidOf(shim));
  await install(newer);
  t.same(versions(), [fresh], 'the old one goes with its last VM');
  t.ok(existsSync(join(prefix, 'bin/vmctl')));
  t.same(globSync(`${prefix}/**/*.new`), []);
});
