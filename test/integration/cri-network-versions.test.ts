/**
 * The three kinds of network on later containerds. All else is no matter of containerd's: it runs the plugins, and hands the
 * shim what they made.
 */
import t from 'tap';
import { criContainerd } from '../support/cri-containerd.ts';
import { bootAgain, pingFromNode, startGuest, type Way, WAYS } from '../support/cri-ways.ts';

for (const source of ['trixie', 'sid'] as const) {
  for (const [name, way] of Object.entries<Way>(WAYS)) {
    void t.test(`${name}, on the containerd of Debian ${source}`, async (t) => {
      const { plugins } = way;
      const node = await criContainerd(t, {
        source,
        ...(plugins === undefined ? {} : { vmPlugins: plugins }),
      });
      const guest = await startGuest(t, node, way, { name: 'web-0' });
      await pingFromNode(t, node, guest);
      using _console = await bootAgain(t, guest, way);
      await pingFromNode(t, node, guest);
    });
  }
}
