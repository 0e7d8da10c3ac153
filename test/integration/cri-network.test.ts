/**
 * The network of pods that are VMs, as the CNI plugins of a node make it: the guest has the pod's addresses and is reached
 * at them, whichever way its card joins the network.
 */
import t from 'tap';
import { BUSYBOX, criContainerd } from '../support/cri-containerd.ts';
import { CriPod } from '../support/cri-pod.ts';
import { ANSWERED, bootAgain, pingFromNode, startGuest, type Way, WAYS } from '../support/cri-ways.ts';

for (const [name, way] of Object.entries<Way>(WAYS)) {
  void t.test(name, async (t) => {
    const node = await criContainerd(t, way.plugins === undefined ? {} : { vmPlugins: way.plugins });
    // On the node's bridge, and there first: routes to the VMs come with each.
    const neighbour = await CriPod.run(t, node, { name: 'neighbour', handler: '' });
    const [first, second] = await Promise.all([
      startGuest(t, node, way, { name: 'web-0' }),
      startGuest(t, node, way, { name: 'web-1' }),
    ]);
    const others = {
      'the node': ['10.88.0.1', 'fd00:88:0:1::1'],
      'a container': await neighbour.addresses(),
    };
    const vms = { 'another VM': second.addresses };
    for (const [who, addresses] of Object.entries({ ...others, ...vms })) {
      for (const ip of addresses) {
        t.ok(await first.console.ask(`ping -c 3 -W 20 ${ip}`, ANSWERED), `to ${who} at ${ip}`);
      }
    }
    await pingFromNode(t, node, first);
    const pings = first.addresses.map((ip) => `/bin/busybox ping -c 3 -W 20 ${ip} && echo "reached ${ip}"`);
    const command = ['/bin/busybox', 'sh', '-c', `${pings.join('; ')}; /bin/busybox sleep 1000`];
    const container = await neighbour.start({ image: BUSYBOX, command });
    for (const ip of first.addresses) {
      t.ok(await container.log.until(new RegExp(`reached ${ip}\\n`)), `from a container to ${ip}`);
    }

    using console = await bootAgain(t, first, way);
    const [ip = ''] = second.addresses;
    t.ok(await console.ask(`ping -c 3 -W 20 ${ip}`, ANSWERED), 'which the others see at once');
  });
}
