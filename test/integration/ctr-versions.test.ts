/** `ctr run` on the containerds of other Debian releases; everything else about it is tested on this machine's. */
import t from 'tap';
import { privateContainerd } from '../support/containerd.ts';
import { ctrRun } from '../support/ctr-run.ts';

const ways = [
  { name: '1.7', source: 'trixie', shimConfig: '' },
  { name: '2.x', source: 'sid', shimConfig: '' },
  { name: '2.x, bootstrap version 3', source: 'sid', shimConfig: 'bootstrap_version = 3' },
] as const;

for (const { name, source, shimConfig } of ways) {
  void t.test(`containerd ${name}`, async (t) => {
    const containerd = await privateContainerd(t, { source, shimConfig });
    const run = await ctrRun(containerd, 'vm');
    await run.console.until('vmguest: ready');
    t.match((await containerd.ctr('tasks', 'ls')).stdout, /^vm +\d+ +RUNNING$/m);
    run.type('poweroff');
    t.equal(await run.exited, 0);

    const refused = await ctrRun(containerd, 'refused', { annotations: { 'vmshim.io/memmory': '1Gi' } });
    t.not(await refused.exited, 0);
    t.match(refused.stderr.text, /unknown annotation "vmshim.io\/memmory"/);
  });
}
