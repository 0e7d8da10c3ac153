import t from 'tap';
import type { Bandwidth } from '../../src/net/bandwidth.ts';
import { closePodNic, closeTapNic, openPodNic, openTapNic, type PodNic } from '../../src/net/attach-nic.ts';
import { readGuardCounters } from '../../src/net/guard.ts';
import { guardMirroredTap, guardTap } from '../../src/net/guard-point.ts';
import { guardRules } from '../../src/net/guard-rules.ts';
import type { GuestInterface, TapAttachment, TapHandover } from '../../src/net/guest-network.ts';
import { readRate } from '../../src/net/shape.ts';
import { HostWithoutOvs, networkLab } from '../support/network-lab.ts';

const lab = networkLab();
const { host } = lab;
const options = { queues: 2, uid: 12345, guard: true };
const bridge: TapAttachment = { kind: 'bridge', bridge: 'br0' };

await lab.ip(
  undefined,
  ...['link add br0 type bridge', 'link set br0 up', 'address add 10.1.0.1/24 dev br0'],
  'route add default via 10.1.0.2',
);

function guestOf(n: number): GuestInterface {
  return {
    ifName: 'eth0',
    mac: `02:00:00:00:01:${(16 + n).toString(16)}`,
    mtu: 1500,
    addresses: [{ address: `10.1.1.${n}`, prefixLength: 24, gateway: '10.1.0.1' }],
    routes: [],
    dns: { nameservers: [], search: [] },
  };
}

function handoverOf(n: number, attachment: TapAttachment): TapHandover {
  return {
    version: 1,
    sandboxId: 's',
    netns: '/none',
    tap: `vt${n}`,
    attachment,
    bandwidth: undefined,
    guest: guestOf(n),
  };
}

/** What of VMs is on the node, apart from the table itself. */
async function leftovers(netns?: string): Promise<string> {
  const links = await lab.run(netns, 'ip', '-brief', 'link', 'show');
  const routes = await lab.run(netns, 'ip', 'route', 'show');
  const rules = await lab.run(netns, 'nft', 'list', 'ruleset');
  return `${links}${routes}${rules}`
    .split('\n')
    .filter((line) => /v[ti]\d|10\.1\.1\.|02:00:00:00:01/.test(line))
    .join('\n');
}

void t.test('many VMs start and end at the same time on a node that had none', async (t) => {
  const numbers = [1, 2, 3, 4, 5, 6, 7, 8];
  const handovers = numbers.map((n) => handoverOf(n, n % 2 === 0 ? bridge : { kind: 'routed' }));
  const taps = await Promise.all(handovers.map((handover) => openTapNic(lab, handover, options)));
  for (const { tap, attachment } of handovers) {
    t.ok(await readGuardCounters(host, guardTap(tap, attachment)), `${tap} is guarded`);
  }
  const rules = await lab.run(undefined, 'nft', 'list', 'ruleset');
  t.equal(rules.split('iifname @guests goto guest').length - 1, 1, 'the rules are there once');
  t.match(await lab.run(undefined, 'ip', 'route', 'show'), /10\.1\.1\.1 dev vt1/);

  await Promise.all(handovers.map((handover) => closeTapNic(host, handover)));
  for (const tap of taps) tap[Symbol.dispose]();
  await Promise.all(handovers.map((handover) => closeTapNic(host, handover)));
  t.equal(await leftovers(), '');
});

void t.test('a NIC with limits', async (t) => {
  const bandwidth: Bandwidth = {
    received: { bitsPerSecond: 8_000_000, burstBytes: 131_072 },
    sent: { bitsPerSecond: 4_000_000, burstBytes: 1 },
  };
  for (const attachment of [bridge, { kind: 'routed' }] as const) {
    for (const guard of [true, false]) {
      const handover = { ...handoverOf(1, attachment), bandwidth };
      {
        using _tap = await openTapNic(lab, handover, { ...options, guard });
        t.equal(await readRate(host, 'vt1'), 8_000_000, `${attachment.kind}: what the guest receives`);
        t.equal(await readRate(host, 'vi1'), 4_000_000, 'what it sends');
        const links = await lab.run(undefined, 'ip', '-brief', 'address', 'show', 'dev', 'vi1');
        t.notMatch(links, /fe80/, 'the node has no address there');
        await closeTapNic(host, handover);
      }
      await closeTapNic(host, handover);
      t.equal(await leftovers(), '');
    }
  }
  const sentOnly = { ...handoverOf(1, bridge), bandwidth: { ...bandwidth, received: undefined } };
  using _tap = await openTapNic(lab, sentOnly, options);
  t.equal(await readRate(host, 'vt1'), undefined);
  await t.rejects(openTapNic(lab, sentOnly, options), { message: /vt1 exists already/ });
  t.equal(await readRate(host, 'vi1'), 4_000_000, 'who comes too late takes nothing away');
  await closeTapNic(host, sentOnly);
});

void t.test('a NIC that fails leaves nothing', async (t) => {
  const missing: TapAttachment = { kind: 'bridge', bridge: 'br9' };
  await t.rejects(openTapNic(lab, handoverOf(1, missing), options), { message: /br9/ });
  t.equal(await leftovers(), '');

  const ovs: TapAttachment = { kind: 'ovs', bridge: 'br-int' };
  const bare = new HostWithoutOvs();
  await t.rejects(openTapNic({ ...lab, host: bare }, handoverOf(1, ovs), options), {
    kind: 'FailedPrecondition',
    message: /install Open vSwitch/,
  });
  t.equal(await leftovers(), '');
  await closeTapNic(bare, handoverOf(1, ovs));

  // Somebody else's table of that name, which our rules do not fit in.
  const table = guardRules('bridge').table;
  await lab.run(undefined, 'nft', 'delete', 'table', ...table.split(' '));
  await lab.run(undefined, 'nft', 'add', 'table', ...table.split(' '));
  await lab.run(undefined, 'nft', 'add', 'set', ...table.split(' '), 'macs', '{ type ipv4_addr; }');
  await t.rejects(openTapNic(lab, handoverOf(1, bridge), options), {
    kind: 'FailedPrecondition',
    message: /spoof guard of vt1 cannot be set .*turn the guard off/s,
  });
  await lab.run(undefined, 'nft', 'delete', 'table', ...table.split(' '));
  t.equal(await leftovers(), '');
});

void t.test('a NIC without a guard needs no nft', async (t) => {
  using _tap = await openTapNic(lab, handoverOf(1, bridge), { ...options, guard: false });
  t.equal(await readGuardCounters(host, guardTap('vt1', bridge)), undefined);
});

void t.test('a NIC beside a pod’s link', async (t) => {
  const netns = lab.netns(t);
  await lab.ip(
    undefined,
    `link add vha type veth peer name eth0 address ${guestOf(1).mac} netns ${netns}`,
    'link set vha master br0 up',
  );
  await lab.ip(netns, 'link set eth0 up');
  const nic: PodNic = { netns, tap: 'vt1', guest: guestOf(1) };
  {
    using _tap = await openPodNic(lab, nic, options);
    t.ok(await readGuardCounters(host, guardMirroredTap(netns, 'vt1', 'eth0')));
    await closePodNic(host, nic);
  }
  await closePodNic(host, nic);
  const ours = (await leftovers(netns)).split('\n').filter((line) => !line.startsWith('eth0'));
  t.same(ours.join(), '');
  t.equal(await lab.run(netns, 'tc', 'filter', 'show', 'dev', 'eth0', 'ingress'), '');

  await t.rejects(openPodNic(lab, { ...nic, guest: { ...nic.guest, ifName: 'eth9' } }, options), {
    message: /eth9/,
  });
  t.notMatch(await lab.run(netns, 'ip', '-brief', 'link', 'show'), /vt1/);
});

void t.test('how long a VM’s start waits for its NIC', async (t) => {
  for (const attachment of [bridge, { kind: 'routed' }] as const) {
    const took: number[] = [];
    for (let i = 0; i < 10; i++) {
      const start = performance.now();
      const tap = await openTapNic(lab, handoverOf(1, attachment), options);
      took.push(performance.now() - start);
      await closeTapNic(host, handoverOf(1, attachment));
      tap[Symbol.dispose]();
    }
    took.sort((a, b) => a - b);
    t.comment(
      `${attachment.kind}: ${took[0]?.toFixed(1) ?? ''} ms at best, ${took[5]?.toFixed(1) ?? ''} ms in the median`,
    );
  }
  t.equal(await leftovers(), '');
});
