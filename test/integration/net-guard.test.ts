import t from 'tap';
import { attachTap } from '../../src/net/attach-tap.ts';
import { applyGuard, readGuardCounters, removeGuard, restoreGuards } from '../../src/net/guard.ts';
import { type GuardPoint, guardMirroredTap, guardTap } from '../../src/net/guard-point.ts';
import { GUARD_REASONS, guardRules } from '../../src/net/guard-rules.ts';
import { applyShape, makeShaper, removeShaper, type Shape, shaperName } from '../../src/net/shape.ts';
import { openTap, type Tap } from '../../src/net/tap.ts';
import { applyMirror } from '../../src/net/tc-mirror.ts';
import { FakeGuest } from '../support/fake-guest.ts';
import { BROADCAST, ethernet, IPV4, ipv4, udp } from '../support/frames.ts';
import { networkLab } from '../support/network-lab.ts';
import { answered, guardedGuest, honest, otherGuest, spoofed } from '../support/spoofed-frames.ts';
import type { Teardown } from '../support/temp-dir.ts';

const lab = networkLab();
const { host } = lab;
const bridge = { kind: 'bridge', bridge: 'br0' } as const;
const nothing = Object.fromEntries(GUARD_REASONS.map((reason) => [reason, 0]));

/** Snooping would keep multicast from the observer. */
await lab.ip(undefined, 'link add br0 type bridge mcast_snooping 0', 'link set br0 up');
const observerTap = await port('vto', '02:00:00:00:00:0f');
const observer = new FakeGuest(observerTap);

async function port(name: string, mac: string): Promise<Tap> {
  const tap = openTap(lab, { name, queues: 1, netns: undefined, uid: 0 });
  const guest = {
    ifName: 'eth0',
    mac,
    mtu: 1500,
    addresses: [],
    routes: [],
    dns: { nameservers: [], search: [] },
  };
  await attachTap(host, name, bridge, guest);
  return tap;
}

/** More than the test sends, so that only the way of the frames is another. */
async function limit(t: Teardown, sender: Shape['sender']): Promise<void> {
  const sent = { bitsPerSecond: 1e9, burstBytes: 1e6 };
  const shape: Shape = { tap: 'vta', mtu: 1500, bandwidth: { received: undefined, sent }, sender };
  await makeShaper(host, shape);
  await applyShape(host, shape);
  t.teardown(() => removeShaper(host, 'vta'));
}

interface Scene {
  readonly tap: Tap;
  readonly point: GuardPoint;
  /** What else changes when there is a guard. */
  readonly guarded?: () => Promise<void>;
}

const scenes: Record<string, (t: Teardown) => Promise<Scene>> = {
  'a bridge’s port': async () => ({
    tap: await port('vta', guardedGuest.mac),
    point: guardTap('vta', bridge),
  }),
  'a TAP of its own': async () => ({
    tap: await port('vta', guardedGuest.mac),
    point: guardTap('vta', { kind: 'routed' }),
  }),
  'a TAP of its own whose guest may send only so much': async (t) => {
    const tap = await port('vta', guardedGuest.mac);
    await limit(t, 'guard');
    return { tap, point: guardTap('vta', { kind: 'routed' }, shaperName('vta')) };
  },
  'a bridge’s port whose guest may send only so much': async (t) => {
    const tap = await port('vta', guardedGuest.mac);
    await limit(t, 'tc');
    return { tap, point: guardTap('vta', bridge) };
  },
  'a TAP beside a pod’s link': async (t) => {
    const netns = lab.netns(t);
    await lab.ip(
      undefined,
      `link add vha type veth peer name eth0 netns ${netns}`,
      'link set vha master br0 up',
    );
    await lab.ip(netns, 'link set eth0 up');
    const tap = openTap(lab, { name: 'vta', queues: 1, netns, uid: 0 });
    const mirror = { netns, tap: 'vta', link: 'eth0', mtu: 1500 };
    await applyMirror(host, { ...mirror, sender: 'tc' });
    const guarded = async (): Promise<void> => {
      await lab.run(netns, 'tc', 'qdisc', 'delete', 'dev', 'vta', 'ingress');
      await applyMirror(host, { ...mirror, sender: 'guard' });
    };
    return { tap, point: guardMirroredTap(netns, 'vta', 'eth0'), guarded };
  },
};

for (const [where, makeScene] of Object.entries(scenes)) {
  void t.test(`guard at ${where}`, async (t) => {
    const { tap, point, guarded } = await makeScene(t);
    t.teardown(() => tap[Symbol.dispose]());
    // The observer is another guest; where it is no port of ours, a link of the same namespace stands for it.
    const neighbor = { ...point, tap: point.netns === undefined ? 'vto' : 'eth0', forwardTo: undefined };
    const guest = new FakeGuest(tap);
    const marker = ethernet(
      BROADCAST,
      guardedGuest.mac,
      IPV4,
      ipv4('10.7.0.5', '10.7.0.255', 17, udp(9, 9, Buffer.from('marker'))),
    );
    const seen = async (frame: Buffer): Promise<Buffer[]> => {
      guest.send(frame);
      guest.send(marker);
      return observer.receivedBefore(marker);
    };

    t.equal(await readGuardCounters(host, point), undefined, 'no guard yet');
    for (const [, what, frame] of spoofed) {
      t.same(await seen(frame), [frame], `unguarded: ${what}`);
    }

    await applyGuard(host, point, guardedGuest);
    await guarded?.();
    await applyGuard(host, neighbor, otherGuest);
    t.same(await readGuardCounters(host, point), nothing);

    const expected: Record<string, number> = { ...nothing };
    for (const [reason, what, frame] of spoofed) {
      t.same(await seen(frame), [], what);
      expected[reason] = (expected[reason] ?? 0) + 1;
      t.same(await readGuardCounters(host, point), expected, `${what} counts as ${reason}`);
    }
    for (const [what, frame] of honest) t.same(await seen(frame), [frame], what);
    for (const [what, frame] of answered) t.same(await seen(frame), [], what);
    t.same(await readGuardCounters(host, point), expected, 'nothing honest was counted');

    await t.test('applying it again changes nothing', async (t) => {
      await applyGuard(host, point, guardedGuest);
      t.same(await readGuardCounters(host, point), expected);
      const [, , frame] = spoofed[0]!;
      t.same(await seen(frame), []);
      expected['mac'] = (expected['mac'] ?? 0) + 1;
    });

    await t.test('so does making the rules anew, as after an upgrade', async (t) => {
      const { table, script } = guardRules(point.hook);
      await lab.run(
        point.netns,
        'nft',
        'delete',
        'chain',
        ...table.split(' '),
        guardRules(point.hook).marker,
      );
      t.equal(
        await readGuardCounters(host, point),
        undefined,
        'rules of another version are no guard of ours',
      );
      t.match(script, guardRules(point.hook).marker);
      await applyGuard(host, point, guardedGuest);
      t.same(await readGuardCounters(host, point), expected);
      t.same(await seen(honest[0]![1]), [honest[0]![1]]);
    });

    await t.test('it can be removed, more than once', async (t) => {
      await removeGuard(host, point, guardedGuest);
      await removeGuard(host, point, guardedGuest);
      t.equal(await readGuardCounters(host, point), undefined);
      const listed = await lab.run(point.netns, 'nft', 'list', 'ruleset');
      t.notMatch(listed, /vta|10\.7\.0\.5|02:00:00:00:00:0a/);
      if (guarded === undefined) t.same(await seen(spoofed[0]![2]), [spoofed[0]![2]]);
      await lab.run(point.netns, 'nft', 'flush', 'ruleset');
      await removeGuard(host, point, guardedGuest);
      if (point.netns !== undefined)
        await removeGuard(host, { ...point, netns: '/run/netns/vst-none' }, guardedGuest);
    });
  });
}

void t.test('a TAP that ended without clean-up leaves no hole for the next of its name', async (t) => {
  const point = guardTap('vtx', { kind: 'routed' });
  for (let life = 0; life < 3; life++) {
    using tap = await port('vtx', guardedGuest.mac);
    await applyGuard(host, point, guardedGuest);
    const guest = new FakeGuest(tap);
    const [, , spoof] = spoofed[0]!;
    const [, good] = honest[0]!;
    guest.send(spoof);
    guest.send(good);
    t.same(await observer.receivedBefore(good), []);
    t.equal((await readGuardCounters(host, point))?.mac, life + 1);
  }
  await removeGuard(host, point, guardedGuest);
});

void t.test('after nft flush ruleset, the next guest brings the others’ guards back', async (t) => {
  const points = [guardTap('vtx', bridge), guardTap('vty', { kind: 'routed' })];
  using tapX = await port('vtx', guardedGuest.mac);
  using tapY = await port('vty', otherGuest.mac);
  const guests = [guardedGuest, otherGuest];
  const entries = points.map((point, i) => ({ point, guest: guests[i]! }));
  for (const { point, guest } of entries) await applyGuard(host, point, guest);
  await lab.run(undefined, 'nft', 'flush', 'ruleset');
  for (const point of points) t.equal(await readGuardCounters(host, point), undefined);

  const next = { point: guardTap('vto', bridge), guest: { ...otherGuest, mac: '02:00:00:00:00:0f' } };
  t.equal(await applyGuard(host, next.point, next.guest), 'made');
  t.same(await restoreGuards(host, entries), []);
  t.equal(await applyGuard(host, next.point, next.guest), 'added');

  const [, , spoof] = spoofed[0]!;
  for (const [i, tap] of [tapX, tapY].entries()) {
    t.same(await readGuardCounters(host, points[i]!), nothing);
    new FakeGuest(tap).send(i === 0 ? spoof : ethernet(BROADCAST, guardedGuest.mac, IPV4, Buffer.alloc(46)));
    t.equal((await readGuardCounters(host, points[i]!))?.mac, 1);
  }
  for (const { point, guest } of [...entries, next]) await removeGuard(host, point, guest);
});
