/**
 * The network of pods that are VMs, as the CNI plugins of a node make it: the guest has the pod's addresses and is reached
 * at them, whichever way its card joins the network.
 */
import t from 'tap';
import { criContainerd } from '../support/cri-containerd.ts';
import { assertReachable } from '../support/cri-reach.ts';
import { type Way, WAYS } from '../support/cri-ways.ts';

for (const [name, way] of Object.entries<Way>(WAYS)) {
  void t.test(name, async (t) => {
    const node = await criContainerd(t, way.plugins === undefined ? {} : { vmPlugins: way.plugins });
    await assertReachable(t, node, way);
  });
}
