import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { NodeDisks } from '../../../scripts/node/disks.ts';
import { runFiles } from '../../../scripts/node/run-files.ts';
import { type Teardown, tempDir } from '../../support/temp-dir.ts';

const shape = { cpus: 2, memoryMib: 1024 };
/** Seconds that none of these nodes takes to start, on whatever machine; who falls silent is waited for as long. */
const SILENCE = 5;

/** What stands in for QEMU: says a job's TAP on the node's ports, and hangs in a file of the name "hangs". */
const QEMU = `#!${process.execPath}
const { connect } = require('node:net');
const paths = process.argv.filter((word) => word.startsWith('socket,id=testbed.'));
const port = (name) => connect(paths.find((word) => word.includes('.' + name + ',')).split('path=')[1]);
const files = FILES;
const out = port('out');
const status = port('status');
const forever = setInterval(() => {}, 1000);
let said = '';
for (const [index, file] of files.entries()) {
  said += '# Subtest: ' + file + '\\n    ok 1 - it is\\n    1..1\\n';
  if (file === 'hangs') break;
  said += (file === 'fails' ? 'not ' : '') + 'ok ' + (index + 1) + ' - ' + file + '\\n';
}
if (files.includes('hangs')) out.write(said);
else {
  out.end(said + '1..' + files.length + '\\n');
  status.end(files.includes('fails') ? '1' : '0');
  Promise.all([out, status].map((socket) => new Promise((done) => socket.on('close', done)))).then(() => clearInterval(forever));
}
`;

/** Disks of nodes that see `hangs` as many times as `silent` says, and "passes" from then on. */
function nodes(
  t: Teardown,
  silent: number,
): { disksOf: (files: readonly string[]) => Promise<NodeDisks>; jobs: string[][] } {
  const jobs: string[][] = [];
  const disksOf = async (files: readonly string[]): Promise<NodeDisks> => {
    const directory = tempDir(t);
    const qemu = join(directory, 'qemu');
    const seen = files.map((file) => (file === 'hangs' && jobs.length >= silent ? 'passes' : file));
    jobs.push([...files]);
    writeFileSync(qemu, QEMU.replace('FILES', JSON.stringify(seen)), { mode: 0o755 });
    const paths = { qemu: [qemu], kernel: '/k', initrd: '/i', root: '/r', tree: '/t', modules: '/m' };
    return await Promise.resolve({ files: paths, directory, [Symbol.dispose]: () => undefined });
  };
  return { disksOf, jobs };
}

interface Heard {
  out: string;
  err: string;
}

async function run(
  t: Teardown,
  files: readonly string[],
  silent: number,
): Promise<Heard & { jobs: string[][]; status: unknown }> {
  const heard: Heard = { out: '', err: '' };
  const { disksOf, jobs } = nodes(t, silent);
  const limits = { signal: new AbortController().signal, silence: silent === 0 ? 1000 : SILENCE };
  const status: unknown = await runFiles(shape, files, disksOf, limits, {
    out: (text) => (heard.out += text),
    err: (text) => (heard.err += text),
  }).catch((error: unknown) => error);
  return { ...heard, jobs, status };
}

void t.test('one node for all files', async (t) => {
  const { out, jobs, status } = await run(t, ['a', 'b'], 0);
  t.same([jobs, status], [[['a', 'b']], 0]);
  t.match(out, /^ok 2 - b\n1\.\.2\n$/m);
  t.equal((await run(t, ['fails', 'b'], 0)).status, 1);
});

void t.test('the node falls silent: another goes on with the file that had no result', async (t) => {
  const { out, err, jobs, status } = await run(t, ['a', 'hangs', 'c'], 1);
  t.same(
    [jobs, status],
    [
      [
        ['a', 'hangs', 'c'],
        ['hangs', 'c'],
      ],
      0,
    ],
  );
  t.same(out.match(/^ok.*$/gm), ['ok 1 - a', 'ok 2 - passes', 'ok 3 - c']);
  t.match(err, /the node has said nothing for 5 seconds[^]*\nANOTHER NODE runs hangs c\n$/);
});

void t.test('the second time it is what runs', async (t) => {
  const { out, jobs, status } = await run(t, ['a', 'hangs'], 2);
  t.match(status, { message: /^the node has said nothing/ });
  t.equal(jobs.length, 2);
  t.match(out, /^ok 1 - a\n# Subtest: hangs\n {4}ok 1 - it is\n {4}1\.\.1\n1\.\.1\n$/m);
});
