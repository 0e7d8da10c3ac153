import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { NodeSilent, runInNode } from '../../../scripts/node/boot-node.ts';
import type { NodeDisks } from '../../../scripts/node/disks.ts';
import { type Teardown, tempDir } from '../../support/temp-dir.ts';

const shape = { cpus: 2, memoryMib: 1024 };
const nowhere = { out: (): void => undefined, err: (): void => undefined };
const never = new AbortController().signal;

/** A node whose QEMU is a shell script. */
function nodeOf(t: Teardown, script: string): NodeDisks {
  const directory = tempDir(t);
  const qemu = join(directory, 'qemu');
  writeFileSync(qemu, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const files = { qemu: [qemu], kernel: '/k', initrd: '/i', root: '/r', tree: '/t', modules: '/m' };
  return { files, directory, [Symbol.dispose]: () => undefined };
}

void t.test('a node that says nothing for long is ended', async (t) => {
  const node = nodeOf(t, 'exec sleep 1000');
  const ended = runInNode(shape, node, { signal: never, silence: 0.1 }, nowhere);
  t.ok((await ended.catch((error: unknown) => error)) instanceof NodeSilent);
  await t.rejects(ended, {
    message: /^the node has said nothing for 0.1 seconds; the end of the node's console:/,
  });
});

void t.test('so is one when somebody wants us to end', async (t) => {
  const node = nodeOf(t, 'exec sleep 1000');
  const signal = AbortSignal.abort(new Error('ended by SIGTERM'));
  await t.rejects(runInNode(shape, node, { signal, silence: 1000 }, nowhere), {
    message: /^ended by SIGTERM; /,
  });
});

void t.test('one that ends without a result shows its console', async (t) => {
  const node = nodeOf(
    t,
    `for word; do case $word in *logfile=*) echo 'no root disk' >"\${word#*logfile=}" ;; esac; done; exit 3`,
  );
  await t.rejects(runInNode(shape, node, { signal: never, silence: 1000 }, nowhere), {
    message: /^the node ended without a result \(QEMU: 3\); the end of the node's console:\nno root disk/,
  });
});
