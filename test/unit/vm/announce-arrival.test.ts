/** A real link on which the frames are seen, and QMP at the wire; the times at which they are repeated are made to pass. */
import { mock } from 'node:test';
import t, { type Test } from 'tap';
import { buildAddon } from '../../../scripts/build-addon.ts';
import { loadNative } from '../../../src/host/native.ts';
import { openPacketSocket } from '../../../src/host/packet-socket.ts';
import { assembleBpf } from '../../../src/net/dhcp/bpf-program.ts';
import { QmpClient } from '../../../src/qemu/qmp-client.ts';
import { announceArrival } from '../../../src/vm/announce-arrival.ts';
import type { NicPlan } from '../../../src/vm/nic-plan.ts';
import { FakeQemu } from '../../support/fake-qemu.ts';
import { recordingLogger } from '../../support/recording-logger.ts';
import { testNetns } from '../../support/test-netns.ts';
import { bridged } from '../net/dhcp/guests.ts';

buildAddon();
const native = loadNative();
/** After the last of the times at which a guest is announced again. */
const LONG_MS = 60_000;
/** Once at first, and at each of four times. */
const ROUND = 5;

const ARP = assembleBpf([
  { load: 'half', at: 12 },
  { ifEqual: 0x0806, else: 'drop' },
  { return: 60 },
  { label: 'drop' },
  { return: 0 },
]);

interface Arrival {
  readonly qemu: FakeQemu;
  /** Of the guest's gateway, which is told with every announcement. */
  readonly told: () => number;
  /** Resolves when all that QEMU has said was heard. */
  readonly heard: () => Promise<void>;
  /** Resolves when the gateway was told so often, and the other end of the link has seen as many announcements. */
  readonly until: (times: number) => Promise<void>;
  readonly arrival: Disposable;
}

async function arrive(t: Test, running: boolean): Promise<Arrival> {
  const [near, far] = [testNetns(t), testNetns(t)];
  near.exec('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'far', 'netns', far.name);
  near.exec('ip', 'link', 'set', 'eth0', 'up');
  far.exec('ip', 'link', 'set', 'far', 'up');
  // Until the kernel has looked at its carrier, a link drops what it is to send. It holds the lock of all links over that.
  near.exec('sh', '-c', 'until [ "$(cat /sys/class/net/eth0/operstate)" = up ]; do :; done');
  near.exec('ip', 'link', 'set', 'eth0', 'up');
  let [told, announced] = [0, 0];
  const waiting: (() => void)[] = [];
  const stir = (): void => waiting.splice(0).forEach((look) => look());
  const socket = openPacketSocket(native, {
    ...{ ifName: 'far', netns: far.path, filter: ARP, budget: { frames: 1000, windowMs: 1000 } },
    onFrame: (frame) => {
      // RFC 5227: whoever announces an address asks for it.
      if (Buffer.from(frame.subarray(28, 32)).equals(Buffer.from(frame.subarray(38, 42)))) announced++;
      stir();
    },
  });
  t.teardown(() => socket.close());
  const qemu = await FakeQemu.start(t);
  qemu.on('query-status', () => ({ return: { running, status: running ? 'running' : 'paused' } }));
  const qmp = await QmpClient.connect(qemu.path);
  t.teardown(() => qmp.close());
  const nic: NicPlan = {
    ...{ kind: 'netns', netns: near.path, tap: 'tap0', guest: bridged, guarded: true, router6: undefined },
  };
  const asked = qemu.arrival('query-status');
  const arrival = announceArrival(
    {
      ...{ native, log: recordingLogger(), qmp, id: 'a' },
      dhcp: {
        tellGateway: () => {
          told++;
          stir();
        },
      },
    },
    [nic],
  );
  t.teardown(() => arrival[Symbol.dispose]());
  await asked;
  // The socket lets Node end; a test that waits for a frame does not.
  const alive = setInterval(() => undefined, LONG_MS);
  t.teardown(() => clearInterval(alive));
  const until = async (times: number): Promise<void> => {
    while (told < times || announced < times)
      await new Promise<void>((resolve) => void waiting.push(resolve));
  };
  const heard = async (): Promise<void> => {
    await qmp.execute('query-status');
    // What waits for an event goes on after it.
    await new Promise(setImmediate);
  };
  return { qemu, told: () => told, heard, until, arrival };
}

t.beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
t.afterEach(() => mock.timers.reset());

void t.test(
  'a guest that is paused when it is taken over is told all of it again when it goes on',
  async (t) => {
    const { qemu, told, heard, until } = await arrive(t, false);
    await until(1);
    mock.timers.tick(LONG_MS);
    await until(ROUND);
    t.equal(told(), ROUND);
    qemu.emit('RESUME');
    await until(ROUND + 1);
    mock.timers.tick(LONG_MS);
    await until(2 * ROUND);
    t.equal(told(), 2 * ROUND);
    // Who pauses it after that has nothing to do with its arrival.
    qemu.emit('STOP');
    qemu.emit('RESUME');
    await heard();
    mock.timers.tick(LONG_MS);
    t.equal(told(), 2 * ROUND);
  },
);

void t.test('a guest that runs is told once', async (t) => {
  const { qemu, told, heard, until } = await arrive(t, true);
  await heard();
  qemu.emit('RESUME');
  await heard();
  mock.timers.tick(LONG_MS);
  await until(ROUND);
  t.equal(told(), ROUND);
});

void t.test('one that was let go is told nothing more', async (t) => {
  const { qemu, told, heard, until, arrival } = await arrive(t, false);
  await until(1);
  arrival[Symbol.dispose]();
  qemu.emit('RESUME');
  await heard();
  mock.timers.tick(LONG_MS);
  t.equal(told(), 1);
});
