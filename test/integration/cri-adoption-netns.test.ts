/**
 * The guest of a pod whose network another CNI plugin made outlives its shim, though its TAP is in the pod's namespace and that
 * goes with the sandbox: the next shim brings the TAP into the new one. `VMSHIM_ADOPTIONS` says how many times in a row, 3
 * without it.
 */
import { renameSync } from 'node:fs';
import t, { type Test } from 'tap';
import type { VmRecord } from '../../src/vm/record.ts';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import { BRIDGED_GUEST, takeAddresses } from '../support/cri-guest.ts';
import { type BridgeNetwork, hostLocal } from '../support/cri-node-network.ts';
import { type Attached, CriPod } from '../support/cri-pod.ts';
import { forgetPod, killShim, recreate, type RunningPod } from '../support/cri-recreate.ts';
import { ANSWERED, startGuest, WAYS } from '../support/cri-ways.ts';
import { ExpectText } from '../support/expect-text.ts';
import { processEnded } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const TIMES = Number(process.env['VMSHIM_ADOPTIONS'] ?? 3);
const ECHO = 7;
const BRIDGED = WAYS['a link that another plugin made, mirrored in the pod’s namespace'];

const recordOf = ({ containerd }: CriNode, { vm }: RunningPod): VmRecord =>
  vmRecord(containerd, vm.id, 'k8s.io');

/** A server in the guest that sends back what it is sent. */
const serveEcho = (console: Attached): Promise<unknown> =>
  console.ask(`(nc -ll -p ${ECHO} -e cat &) && echo "echo $((1))"`, /echo 1\s/);

/** How often the guest's card has lost or got its carrier. */
const carrierChanges = async (console: Attached): Promise<number> => {
  const [, count] = await console.ask(
    'echo "changes $(cat /sys/class/net/eth0/carrier_changes)."',
    /changes (\d+)\./,
  );
  return Number(count);
};

/** What a DHCP client would do for a link that was down, and the test guest's is told to. */
const renew = async (console: Attached, addresses: readonly string[]): Promise<string> => {
  await console.ask('ip -6 addr flush dev eth0 scope global; echo "flushed $((6))"', /flushed 6\s/);
  return await takeAddresses(console, addresses, BRIDGED_GUEST);
};

void t.test('other addresses in each sandbox, of the bridge plugin', async (t) => {
  // Pods outlive the parts of the test.
  const whole = t;
  const node = await criContainerd(t);
  const { pod, vm, console, mac } = await startGuest(t, node, BRIDGED, {});
  await serveEcho(console);
  let changes = await carrierChanges(console);
  console[Symbol.dispose]();
  let running: RunningPod = { pod, vm, attempt: 0 };
  const { qemu } = recordOf(node, running);
  /** Of a guest in a sandbox with other addresses. */
  const reached = async (t: Test): Promise<void> => {
    const addresses = await running.pod.addresses();
    const record = recordOf(node, running);
    t.same(record.qemu, qemu, 'the same QEMU');
    t.equal(record.nics[0]?.guest.mac, mac, 'the same MAC address');
    using attached = await running.vm.attach();
    changes += 2;
    const carrier = `[ "$(cat /sys/class/net/eth0/carrier_changes)" -ge ${changes} ]`;
    await attached.ask(`until ${carrier}; do :; done; echo "seen $((6))"`, /seen 6\s/);
    await renew(attached, addresses);
    const [ip4 = '', ip6 = ''] = addresses;
    t.match(await node.network.run('busybox', 'ping', '-c', '2', '-W', '20', ip6), ANSWERED, ip6);
    const connection = node.network.connect(ip4, ECHO);
    connection.write(`over ${ip4}\n`);
    await new ExpectText(connection).until(`over ${ip4}\n`);
    connection.destroy();
    t.notMatch(running.vm.log.text, /vmguest: booting/, 'the same boot');
  };

  await t.test('the guest goes on, and learns of them', async (t) => {
    for (let round = 1; round <= TIMES; round++) {
      const before = await running.pod.addresses();
      await killShim(node, running);
      running = await recreate(whole, node, running, { removeOld: round % 2 === 0 });
      t.strictNotSame(await running.pod.addresses(), before);
      await reached(t);
    }
    const { stdout } = await node.containerd.vmctl('status', running.vm.id);
    t.match(stdout, /eth0 booted +with 10\.88\.0\.2\/24 fd00:88:0:1::2\/64;/);
  });

  await t.test('a take-over that fails, in a sandbox that goes as well', async (t) => {
    await killShim(node, running);
    await running.pod.remove();
    const { name, uid } = running.pod.config.metadata;
    const attempt = running.attempt + 1;
    const { runDir } = recordOf(node, running);
    renameSync(`${runDir}/qmp.sock`, `${runDir}/hidden.sock`);
    const failed = await CriPod.run(whole, node, { name, uid, attempt });
    const container = await failed.create({ stdin: true, attempt });
    await t.rejects(container.start(), /qmp\.sock/);
    const left = vmRecord(node.containerd, container.id, 'k8s.io');
    renameSync(`${left.runDir}/hidden.sock`, `${left.runDir}/qmp.sock`);
    running = await recreate(whole, node, { pod: failed, vm: container, attempt });
    await reached(t);
  });

  await t.test('somebody has deleted its TAP', async (t) => {
    const [nic] = recordOf(node, running).nics;
    if (nic?.kind !== 'netns') throw new Error('no TAP in the pod’s namespace');
    await node.network.run('nsenter', `--net=${nic.netns}`, 'ip', 'link', 'delete', nic.tap);
    await killShim(node, running);
    running = await recreate(whole, node, running);
    await running.vm.log.until(/vmguest: ready/);
    t.match(node.containerd.log(), /a TAP of the running guest is gone, so it has to boot anew/);
    await processEnded(pidOf(qemu));
    using attached = await running.vm.attach();
    await takeAddresses(attached, await running.pod.addresses(), BRIDGED_GUEST);
    const { stdout } = await node.containerd.vmctl('status', running.vm.id);
    t.notMatch(stdout, /eth0 booted/);
  });

  await t.test('its pod is deleted while there is no shim', async () => {
    const left = recordOf(node, running);
    await killShim(node, running);
    await running.pod.remove();
    forgetPod(running.pod);
    await processEnded(pidOf(left.qemu));
  });
});

/** By which our router advertisements name a gateway with a global address. */
const ROUTER6 = 'fe80::76:6dff:fe00:1';

/** The node's end of a veth is the gateway, and each pod gets the same addresses as the one before. */
const pointToPoint = (network: BridgeNetwork): object[] => {
  const only = (subnet: string, address: string): object[] => [
    { subnet, rangeStart: address, rangeEnd: address },
  ];
  const { prefix4, prefix6 } = network;
  const ranges = [only(`${prefix4}.0/24`, `${prefix4}.2`), only(`${prefix6}::/64`, `${prefix6}::2`)];
  return [{ type: 'ptp', ipam: { ...hostLocal(network), ranges } }];
};

void t.test('the same addresses in each sandbox, of the ptp plugin: connections go on', async (t) => {
  const node = await criContainerd(t, { vmPlugins: pointToPoint });
  const routes = [
    'ip route add 10.88.0.1 dev eth0',
    'ip route add default via 10.88.0.1',
    // Of the router advertisement, for which the test guest does not ask.
    `ip -6 route replace default via ${ROUTER6} dev eth0`,
    // What it has learnt of a neighbour is good for a day: it would not look for its gateway by itself.
    'for f in 4 6; do echo 86400000 >/proc/sys/net/ipv$f/neigh/eth0/base_reachable_time_ms; done',
  ].join(' && ');
  const way = { ...BRIDGED, prefixes: [32, 128] as const, routes };
  const { pod, vm, console, addresses } = await startGuest(t, node, way, {});
  await serveEcho(console);
  const changes = await carrierChanges(console);
  console[Symbol.dispose]();
  const connections = addresses.map((address) => {
    const connection = node.network.connect(address, ECHO);
    t.teardown(() => connection.destroy());
    return { connection, echoed: new ExpectText(connection) };
  });
  const echo = async (text: string): Promise<void> => {
    for (const { connection, echoed } of connections) {
      connection.write(`${text}\n`);
      await echoed.until(`${text}\n`);
    }
  };
  let running: RunningPod = { pod, vm, attempt: 0 };
  const { qemu } = recordOf(node, running);
  await echo('before');
  const takeOver = async (): Promise<void> => {
    await killShim(node, running);
    running = await recreate(t, node, running);
    t.same(await running.pod.addresses(), addresses);
    const { qemu: runs, nics } = recordOf(node, running);
    t.same(runs, qemu, 'the same QEMU');
    // As plugins do it that write a pod's neighbour down themselves, with the address that they gave its link.
    const own = nics[0]?.kind === 'netns' ? (nics[0].linkMac ?? '') : '';
    for (const address of addresses) {
      const route = await node.network.run('ip', 'route', 'get', address);
      const [, dev = ''] = /dev (\S+) /.exec(route) ?? [];
      const neighbour = ['neighbour', 'replace', address, 'lladdr', own, 'dev', dev, 'nud', 'permanent'];
      await node.network.run('ip', ...neighbour);
    }
  };
  await takeOver();
  await echo('after');
  await node.containerd.vmctl('pause', running.vm.id);
  await takeOver();
  await node.containerd.vmctl('resume', running.vm.id);
  await echo('resumed');
  using attached = await running.vm.attach();
  t.equal(await carrierChanges(attached), changes, 'and no cable was pulled');
  await running.pod.remove();
});
