/**
 * A guest that wants to use up what is not its own: memory, disk and processor time of its node through whatever looks after
 * it. Everything here is done by a real guest to the real devices of its QEMU.
 */
import { globSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { vmNames } from '../../src/vm/names.ts';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import { BROADCAST, ethernet, icmp6Packet, IPV4, ipv4, IPV6, udp } from '../support/frames.ts';
import { hostLocal } from '../support/cri-node-network.ts';
import { type CriContainer, CriPod } from '../support/cri-pod.ts';
import { type ProcessLoad, processLoad } from '../support/process-load.ts';
import { vmImage } from '../support/vm-image.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';
import { dhcp4 } from '../unit/net/dhcp/wire.ts';

const LOG_BYTES = 64 << 10;
const MIB = 1 << 20;

void t.test('a hostile guest', async (t) => {
  const node = await criContainerd(t, {
    shimConfig: '[console]\nlog_bytes = "64Ki"\n',
    vmPlugins: (network, stateDir) => [
      { type: 'vm-tap', bridge: network.bridge, isGateway: true, stateDir, ipam: hostLocal(network) },
    ],
  });
  const pod = await CriPod.run(t, node, { name: 'hostile' });
  const { kernelBoot } = await vmImage();
  const annotations = { ...kernelBoot, 'vmshim.io/memory': '128Mi' };
  const vm = await pod.start({ stdin: true, annotations });
  await vm.log.until(/vmguest: ready/);
  using console = await vm.attach();
  const watched = new Watched(node, vm);

  await t.test('floods its console', async (t) => {
    const before = watched.load();
    // More than the logs hold.
    await console.ask('yes 0123456789abcde | head -c 400000; echo "flood $((1))"', /flood 1/);
    const logs = globSync(join(node.containerd.directory, 'data/vms', watched.key, 'console.log*'));
    t.equal(logs.length, 2);
    for (const log of logs) t.ok(statSync(log).size <= LOG_BYTES, `${log} has ${statSync(log).size} bytes`);
    watched.expectCalm(t, before);
  });

  await t.test('floods the events of its QEMU', async (t) => {
    const before = watched.load();
    const driver = '/sys/bus/pci/drivers/pvpanic-pci';
    const unbind = `for d in ${driver}/0*; do echo \${d##*/} >${driver}/unbind; done`;
    await console.ask(`${unbind}; pester crashload 30000`, /pester: status 0/);
    // It answers by the same connection, behind the events.
    t.equal((await watched.status()).state, 'running', 'and its VM is managed as before');
    t.ok(watched.load().shim.read - before.shim.read > 30_000 * 50, 'the events have been there');
    watched.expectCalm(t, before);
  });

  await t.test('makes its QEMU complain', async (t) => {
    const before = watched.load();
    const drivers = '/sys/bus/virtio/drivers/virtio_rng/virtio*';
    const unbind = `for d in ${drivers}; do d=$(readlink -f $d/..); echo \${d##*/} >/sys/bus/pci/drivers/virtio-pci/unbind; done`;
    await console.ask(`${unbind}; pester break 40000`, /pester: status 0/);
    // 40000 lines are more than may stay; one look at the file is due within a second.
    while (!/bytes of this log were dropped/.test(watched.qemuLog())) await delay(50);
    t.ok(watched.qemuLog().length <= 2 * MIB, `${watched.qemuLog().length} bytes`);
    t.match(watched.qemuLog(), /Guest moved used index/);
    t.equal((await watched.status()).state, 'running');
    watched.expectCalm(t, before);
  });

  await t.test('floods its DHCP server', async (t) => {
    const before = watched.load();
    const { mac } = watched.nic;
    const discover = dhcp4({ options: [[53, '01']], chaddr: mac });
    const requests = [
      ethernet(BROADCAST, mac, IPV4, ipv4('0.0.0.0', '255.255.255.255', 17, udp(68, 67, discover))),
      ethernet('33:33:00:00:00:02', mac, IPV6, icmp6Packet('fe80::1', 'ff02::2', 133, Buffer.alloc(4))),
    ];
    const started = performance.now();
    const send = requests.map((frame) => `pester frames eth0 10000 ${frame.toString('hex')}`).join(' && ');
    await console.ask(`ip link set eth0 up; ${send} && echo "sent $((2))"`, /sent 2/);
    const { nics } = await watched.status();
    const seconds = Math.ceil((performance.now() - started) / 1000) + 1;
    const { flood = 0, ...looked } = Object.fromEntries(
      (nics[0]?.dhcp ?? []).map(({ name, value }) => [name, Number(value)]),
    );
    const frames = Object.values(looked).reduce((sum, n) => sum + n, 0);
    t.ok(looked['offer'] !== undefined, 'it is answered');
    t.ok(flood > 0 && flood <= seconds, `${flood} floods in ${seconds} s`);
    t.ok(frames <= 50 * seconds, `${frames} frames looked at in ${seconds} s`);
    watched.expectCalm(t, before);
  });

  await t.test('does not read what is typed', async (t) => {
    await node.containerd.ctr('--namespace', 'k8s.io', 'tasks', 'pause', vm.id);
    const before = watched.load();
    for (let i = 0; i < 128; i++) console.type('x'.repeat(32 << 10));
    while (watched.load().shim.read - before.shim.read < 64 << 10) await delay(20);
    t.equal((await watched.status()).state, 'paused');
    const read = watched.load().shim.read - before.shim.read;
    t.ok(read < 2 * MIB, `the shim has taken ${read} bytes of 4 MiB`);
    watched.expectCalm(t, before);
  });
});

interface Status {
  readonly state: string;
  readonly nics: readonly {
    readonly dhcp: readonly { readonly name: string; readonly value: number | string }[];
  }[];
}

interface Loads {
  readonly shim: ProcessLoad;
  readonly qemu: ProcessLoad;
}

/** The VM's processes, from outside. */
class Watched {
  readonly key: string;
  readonly nic: { readonly mac: string };
  readonly #node: CriNode;
  readonly #id: string;
  readonly #log: string;
  readonly #pids: { readonly shim: number; readonly qemu: number };

  constructor(node: CriNode, { id }: CriContainer) {
    const { key, qemuLog } = vmNames(join(node.containerd.directory, 'vms'), 'k8s.io', id);
    const { shim, qemu, nics } = vmRecord(node.containerd, id, 'k8s.io');
    this.key = key;
    this.nic = nics[0]!.guest;
    this.#node = node;
    this.#id = id;
    this.#log = qemuLog;
    this.#pids = { shim: pidOf(shim), qemu: pidOf(qemu) };
  }

  load(): Loads {
    return { shim: processLoad(this.#pids.shim), qemu: processLoad(this.#pids.qemu) };
  }

  qemuLog(): string {
    return readFileSync(this.#log, 'latin1');
  }

  /** Whatever the guest has done since, its shim has kept nothing of it and has not worked more than the guest itself. */
  expectCalm(t: Test, before: Loads): void {
    const { shim, qemu } = this.load();
    const [work, theirs] = [shim.cpu - before.shim.cpu, qemu.cpu - before.qemu.cpu];
    const growth = shim.memory - before.shim.memory;
    t.ok(growth < 24 * MIB, `${growth} bytes more memory`);
    t.ok(work < 2 + 2 * theirs, `${work} s of work beside QEMU’s ${theirs} s`);
  }

  async status(): Promise<Status> {
    const { stdout } = await this.#node.containerd.vmctl('status', this.#id, '--json');
    return JSON.parse(stdout) as Status;
  }
}
