import t from 'tap';
import { privateContainerd } from '../support/containerd.ts';
import { type CtrRun, ctrRun } from '../support/ctr-run.ts';
import { guest } from '../support/guest.ts';

/** A VM's id, what is done to it once it is up, and the exit status it has to end with. */
interface Fate {
  readonly id: string;
  readonly does: (run: CtrRun) => unknown;
  readonly status: number;
}

void t.test('several VMs at once', async (t) => {
  const containerd = await privateContainerd(t);
  const kill = (id: string): Promise<unknown> => containerd.ctr('tasks', 'kill', '--signal', 'SIGKILL', id);

  await t.test('two PCs: each has its own console and its own end', async (t) => {
    const runs = await Promise.all(
      ['left', 'right'].map((id) => ctrRun(containerd, id, { annotations: { 'vmshim.io/memory': '96Mi' } })),
    );
    const [left, right] = runs as [CtrRun, CtrRun];
    await Promise.all(runs.map(({ console }) => console.until('vmguest: ready')));
    left.type('echo left-$((20 + 1))');
    right.type('echo right-$((20 + 2))');
    await Promise.all([left.console.until('left-21'), right.console.until('right-22')]);
    t.notMatch(left.console.text, 'right-');
    t.notMatch(right.console.text, 'left-');
    left.type('poweroff');
    t.equal(await left.exited, 0);
    right.type('echo still-$((20 + 3))');
    await right.console.until('still-23');
    right.type('panic');
    t.equal(await right.exited, 1);
  });

  await t.test('ten microVMs, of which a reset is the end', async (t) => {
    const { cmdline } = await guest();
    const annotations = {
      'vmshim.io/machine': 'microvm',
      'vmshim.io/memory': '96Mi',
      'vmshim.io/network': 'none',
      // Linux reboots one second after a panic, so that is a reset, too.
      'vmshim.io/cmdline': `${cmdline} panic=1`,
    };
    const fates = Array.from({ length: 10 }, (_, n): Fate => {
      const id = `micro-${n}`;
      if (n === 3) return { id, does: () => kill(id), status: 137 };
      if (n === 7) return { id, does: (run) => run.type('panic'), status: 0 };
      return { id, does: (run) => run.type('reboot'), status: 0 };
    });
    const ended = await Promise.all(
      fates.map(async ({ id, does }) => {
        const run = await ctrRun(containerd, id, { annotations });
        await run.console.until('vmguest: ready');
        await does(run);
        return { id, status: await run.exited };
      }),
    );
    t.strictSame(
      ended,
      fates.map(({ id, status }) => ({ id, status })),
    );
    const rebooted = /VM ended: the guest rebooted and its policy is to exit" .*status=0/g;
    await containerd.logged(new RegExp(`(?:${rebooted.source}[^]*?){9}`));
    t.equal(containerd.log().match(rebooted)?.length, 9);
  });
});
