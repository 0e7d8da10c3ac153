/**
 * The network of pods with vhost-net in every VM. Of the ways to join it the one with a TAP on the node's bridge; the others
 * take two minutes each in here: `scripts/testbed run test/integration/cri-network.test.ts`.
 */
import t from 'tap';
import { criContainerd } from '../support/cri-containerd.ts';
import { assertReachable } from '../support/cri-reach.ts';
import { WAYS } from '../support/cri-ways.ts';

void t.test('VMs on vhost-net, a container and the node reach each other', async (t) => {
  const way = WAYS['a TAP on the node’s bridge'];
  const node = await criContainerd(t, { vmPlugins: way.plugins });
  const { vm } = await assertReachable(t, node, way);
  const status = JSON.parse((await node.containerd.vmctl('status', vm.id, '--json')).stdout) as {
    network: string;
  };
  t.match(status.network, /vhost-net$/);
});
