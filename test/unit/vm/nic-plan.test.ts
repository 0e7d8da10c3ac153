import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { textLogger } from '../../../src/core/logger.ts';
import type { VmSpec } from '../../../src/core/vm-spec.ts';
import type { ExecResult } from '../../../src/host/host.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import type { Native } from '../../../src/host/native.ts';
import { planNics, type NicPlan } from '../../../src/vm/nic-plan.ts';
import { type Teardown, tempDir } from '../../support/temp-dir.ts';

const SANDBOX = 'c0ffee';
const NETNS = '/proc/self/ns/net';
type PodNetwork = Extract<VmSpec['network'], { mode: 'pod' }>;

/** A pod's namespace with these links, and hand-overs with these names. */
class PodHost extends LinuxHost {
  readonly stateDir: string;
  readonly #links: readonly string[];
  asked = 0;

  constructor(t: Teardown, links: readonly string[], handovers: readonly string[]) {
    super();
    this.#links = links;
    this.stateDir = tempDir(t);
    const directory = join(this.stateDir, 'cni', SANDBOX);
    if (handovers.length > 0) mkdirSync(directory, { recursive: true });
    for (const ifName of handovers) {
      writeFileSync(join(directory, `${ifName}.json`), JSON.stringify(handoverOf(ifName)));
    }
  }

  override readText(path: string): string {
    if (path !== '/proc/thread-self/net/dev') return super.readText(path);
    const line = (name: string): string => `${name.padStart(6)}: 0 0 0 0`;
    return `Inter-|   Receive\n face |bytes\n${['lo', ...this.#links].map(line).join('\n')}\n`;
  }

  override exec(): Promise<ExecResult> {
    this.asked++;
    const links = this.#links.map((ifname, i) => ({
      ifindex: i + 2,
      ifname,
      flags: ['UP'],
      mtu: 1500,
      link_type: 'ether',
      address: `02:00:00:00:01:0${i}`,
      linkinfo: { info_kind: ifname === 'tunl0' ? 'ipip' : 'veth' },
      addr_info: [],
    }));
    const routes = this.#links.slice(0, 1).map((dev) => ({ dst: 'default', gateway: '10.0.0.1', dev }));
    const stdout = [links, routes, []].map((part) => JSON.stringify(part)).join('\n');
    return Promise.resolve({ status: 0, stdout, stderr: '' });
  }
}

function handoverOf(ifName: string): object {
  return {
    version: 1,
    network: 'vms',
    sandboxId: SANDBOX,
    netns: NETNS,
    tap: `vt${ifName}`,
    attachment: { kind: 'routed' },
    guest: {
      ifName,
      mac: '02:00:00:00:00:01',
      mtu: 1500,
      addresses: [],
      routes: [
        { destination: '0.0.0.0/0', gateway: '10.9.0.1' },
        { destination: '::/0', gateway: 'fe80::1' },
      ],
      dns: {},
    },
  };
}

const plan = (host: PodHost, network: Partial<PodNetwork> = {}): Promise<NicPlan[]> => {
  const owner = {
    kind: 'pod',
    uid: 'uid',
    sandboxId: SANDBOX,
    name: 'p',
    namespace: 'n',
    container: 'c',
  } as const;
  const spec = { owner, network: { mode: 'pod', wanted: 'any', mac: undefined, guard: true, ...network } };
  const native = { setns: () => undefined } as unknown as Native;
  return planNics(
    { host, native, log: textLogger(() => undefined, { debug: false }) },
    spec as unknown as VmSpec,
    { stateDir: host.stateDir, netns: NETNS, resolvConf: undefined },
    AbortSignal.timeout(10_000),
  );
};

const cardsOf = (plans: readonly NicPlan[]): string[] =>
  plans.map(({ kind, guest }) => `${guest.ifName} ${kind}`);

void t.test('cards of both kinds, in the order of their names', async (t) => {
  const host = new PodHost(t, ['net10', 'eth0', 'tunl0'], ['net2', 'net1']);
  t.same(cardsOf(await plan(host)), ['eth0 netns', 'net1 tap', 'net2 tap', 'net10 netns']);
  t.same(cardsOf(await plan(host, { wanted: 'tap' })), ['net1 tap', 'net2 tap']);
  t.same(cardsOf(await plan(host, { wanted: 'netns' })), ['eth0 netns', 'net10 netns']);
});

void t.test('a link that stands for a card of vm-tap is no other card', async (t) => {
  t.same(cardsOf(await plan(new PodHost(t, ['eth0', 'net1'], ['eth0']))), ['eth0 tap', 'net1 netns']);
});

void t.test('no process is run for a namespace that holds nothing else', async (t) => {
  const host = new PodHost(t, ['tunl0', 'sit0', 'eth0'], ['eth0']);
  t.same(cardsOf(await plan(host)), ['eth0 tap']);
  t.equal(host.asked, 0);
});

void t.test('one default route of each family: the first card’s that has one', async (t) => {
  const routes = (plans: readonly NicPlan[]): string[] =>
    plans.flatMap(({ guest }) => guest.routes.map(({ destination }) => `${guest.ifName} ${destination}`));
  t.same(routes(await plan(new PodHost(t, [], ['net1', 'eth0']))), ['eth0 0.0.0.0/0', 'eth0 ::/0']);
  // The link has one for IPv4 only.
  t.same(routes(await plan(new PodHost(t, ['eth0'], ['net1']))), ['eth0 0.0.0.0/0', 'net1 ::/0']);
});

void t.test('a MAC address that was asked for is the first card’s, or an error', async (t) => {
  const host = new PodHost(t, [], ['eth0']);
  t.equal((await plan(host, { mac: '02:00:00:00:00:01' })).length, 1);
  const mac = '02:00:00:00:00:99';
  await t.rejects(plan(host, { mac }), {
    kind: 'FailedPrecondition',
    message:
      /vmshim.io\/mac is "02:00:00:00:00:99" but the pod’s network gave eth0 the address 02:00:00:00:00:01; give vm-tap/,
  });
  await t.rejects(plan(new PodHost(t, ['eth0'], []), { mac }), {
    message: /have the CNI plugin give the pod’s link/,
  });
});

void t.test('a pod without a network to join', async (t) => {
  const host = new PodHost(t, [], []);
  await t.rejects(plan(host), {
    kind: 'FailedPrecondition',
    message: /holds no link that a VM can be given/,
  });
  await t.rejects(plan(host, { wanted: 'tap' }), { message: /vm-tap left nothing for this pod/ });
});
