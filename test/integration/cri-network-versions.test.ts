/** The three kinds of network on later containerds. All else is no matter of containerd's: it runs the plugins, and hands the shim what they made. */
import t, { type Test } from 'tap';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import { takeAddresses } from '../support/cri-guest.ts';
import type { Attached } from '../support/cri-pod.ts';
import { type CriGuest, startGuest, type Way, WAYS } from '../support/cri-ways.ts';

/** One answer proves the way; the first frames to a new neighbour may be lost while it is being discovered. */
const ANSWERED = /[1-9]\d* packets received/;

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

async function pingFromNode(t: Test, node: CriNode, { addresses }: CriGuest): Promise<void> {
  for (const ip of addresses) {
    const said = await node.network.run('busybox', 'ping', '-c', '3', '-W', '20', ip);
    t.match(said, ANSWERED, `from the node to ${ip}`);
  }
}

/** Stops the VM and starts its container once more; gives the new console. */
async function bootAgain(
  t: Test,
  { pod, vm, console, addresses, mac }: CriGuest,
  way: Way,
): Promise<Attached> {
  console[Symbol.dispose]();
  await vm.stop(60);
  const again = await pod.start({ stdin: true, attempt: 1 });
  await again.log.until(/vmguest: ready/);
  const attached = await again.attach();
  t.same(await takeAddresses(attached, addresses, way), mac, 'the same MAC and IP after a restart');
  return attached;
}
