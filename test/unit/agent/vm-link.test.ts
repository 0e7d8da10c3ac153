import { once } from 'node:events';
import { mkdirSync, renameSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { VmLink } from '../../../src/agent/vms/vm-link.ts';
import { StandInShim } from '../../support/stand-in-shim.ts';
import { tempDir } from '../../support/temp-dir.ts';

const KEY = '0123456789abcdef0123';

void t.test('a socket that has its name before somebody listens there is found after all', async (t) => {
  const stateDir = tempDir(t);
  const runDir = join(stateDir, KEY);
  mkdirSync(runDir);
  const control = join(runDir, 'control.sock');
  let told = Promise.withResolvers<string | undefined>();
  await using link = new VmLink(control, (status) => told.resolve(status?.name ?? undefined));
  // The record is written anew at every step of a VM's creation.
  for (let step = 0; step < 10; step += 1) {
    t.equal(await told.promise, undefined, 'nobody answers');
    told = Promise.withResolvers();
    link.poke();
  }

  const bound = createServer();
  bound.listen(join(runDir, 'bound.sock'));
  await once(bound, 'listening');
  renameSync(join(runDir, 'bound.sock'), control);
  bound.close();
  await once(bound, 'close');
  t.equal(await told.promise, undefined);
  told = Promise.withResolvers();
  link.poke();
  t.equal(await told.promise, undefined, 'nobody listens yet');

  told = Promise.withResolvers();
  const shim = new StandInShim(t, stateDir, { key: KEY, podUid: 'uid-a' });
  await shim.start();
  for (let name = await told.promise; name !== 'vm-1'; name = await told.promise)
    told = Promise.withResolvers();
  t.pass('it is asked again without anybody’s poke');
});
