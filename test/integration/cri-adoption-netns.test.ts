/**
 * The guest of a pod whose network another CNI plugin made outlives its shim, though its TAP lives in the pod's namespace, and
 * that goes with the sandbox: the next shim brings the TAP to the new one, where the guest is told of its new addresses.
 */
import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import { hostLocal } from '../support/cri-node-network.ts';
import { forgetPod, killShim, recreate, type RunningPod } from '../support/cri-recreate.ts';
import { ANSWERED, startGuest, WAYS } from '../support/cri-ways.ts';
import { BRIDGED_GUEST, takeAddresses } from '../support/cri-guest.ts';
import { ExpectText } from '../support/expect-text.ts';
import { processEnded } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const ECHO = 7;
const TIMES = Number(process.env['VMSHIM_ADOPTIONS'] ?? 5);
const way = WAYS['a link that another plugin made, mirrored in the pod’s namespace'];

const recordOf = ({ containerd }: CriNode, { vm }: RunningPod) => vmRecord(containerd, vm.id, 'k8s.io');

void t.test('a bridge, which gives each sandbox other addresses', async (t) => {
  const node = await criContainerd(t);

  await t.test('the guest goes on and learns of them', async (t) => {
    const { pod, vm, console, mac } = await startGuest(t, node, way, {});
    await console.ask(`(nc -ll -p ${ECHO} -e cat &) && echo "echo $((1))"`, /echo 1/);
    console[Symbol.dispose]();
    let running: RunningPod = { pod, vm, attempt: 0 };
    const { qemu } = recordOf(node, running);
    for (let round = 1; round <= TIMES; round++) {
      const before = await running.pod.addresses();
      await killShim(node, running);
      running = await recreate(t, node, running, { removeOld: round % 2 === 0 });
      const addresses = await running.pod.addresses();
      t.strictNotSame(addresses, before, 'the new sandbox has other addresses');
      const record = recordOf(node, running);
      t.same(record.qemu, qemu, 'the same QEMU');
      t.equal(record.nics[0]?.guest.mac, mac, 'with the same MAC address');
      using attached = await running.vm.attach();
      await attached.ask(
        'until [ "$(cat /sys/class/net/eth0/carrier_changes)" -ge ' +
          String(2 * round) +
          ' ]; do :; done; echo "seen $((6))"',
        /seen 6\s/,
      );
      await attached.ask('ip -6 addr flush dev eth0 scope global; echo "flushed $((6))"', /flushed 6\s/);
      t.equal(await takeAddresses(attached, addresses, BRIDGED_GUEST), mac);
      for (const ip of addresses)
        t.match(await node.network.run('busybox', 'ping', '-c', '3', '-W', '20', ip), ANSWERED, ip);
      const connection = node.network.connect(addresses[0] ?? '', ECHO);
      connection.write(`adopted ${round}\n`);
      await new ExpectText(connection).until(`adopted ${round}\n`);
      connection.destroy();
      t.notMatch(running.vm.log.text, /vmguest: booting/, 'the same boot');
    }
    const { stdout } = await node.containerd.vmctl('status', running.vm.id);
    t.match(stdout, /eth0 booted +with 10\.88\.0\.\d+\/24 /);
    await running.vm.stop(60);
    await running.pod.remove();
  });
});
