import type { Test } from 'tap';
import { BUSYBOX, type CriNode } from './cri-containerd.ts';
import { CriPod } from './cri-pod.ts';
import { ANSWERED, bootAgain, type CriGuest, pingFromNode, startGuest, type Way } from './cri-ways.ts';

/**
 * Two VMs, a container and the node reach each other by both families, also after one of the VMs has booted again.
 *
 * @returns the other VM, which runs on until the test ends
 */
export async function assertReachable(t: Test, node: CriNode, way: Way): Promise<CriGuest> {
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
  return second;
}
