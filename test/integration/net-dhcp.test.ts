/**
 * The DHCP responder against real clients: busybox's udhcpc, the kernel's own IPv6 auto-configuration, and DHCPv6 over the
 * kernel's UDP; and on a real TAP with everything around it that could take the frames away.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { buildAddon } from '../../scripts/build-addon.ts';
import { loadNative } from '../../src/host/native.ts';
import { inNetworkNamespace } from '../../src/host/network-namespace.ts';
import {
  type DhcpResponder,
  type DhcpResponderOptions,
  openDhcpResponder,
} from '../../src/net/dhcp/dhcp-responder.ts';
import type { GuestInterface } from '../../src/net/guest-network.ts';
import { tempDir, type Teardown } from '../support/temp-dir.ts';
import { testNetns, type TestNetns } from '../support/test-netns.ts';
import { bridged, routed } from '../unit/net/dhcp/guests.ts';
import {
  dhcp4,
  dhcp6,
  GUEST_MAC,
  readDhcp4,
  readDhcp6,
  readFrame,
  udp4Frame,
} from '../unit/net/dhcp/wire.ts';

buildAddon();
const native = loadNative();

interface Lab {
  /** Where the TAP would be: a veth called `tap0`. */
  readonly node: TestNetns;
  /** Where the guest would be: `eth0` with the guest's MAC, still down. */
  readonly guest: TestNetns;
  readonly responder: DhcpResponder;
  readonly log: string[];
}

function lab(t: Teardown, guest: GuestInterface, options: Partial<DhcpResponderOptions> = {}): Lab {
  const [node, inside] = [testNetns(t), testNetns(t)];
  node.exec('ip', 'link', 'add', 'tap0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', inside.name);
  node.exec('ip', 'link', 'set', 'tap0', 'up');
  inside.exec('ip', 'link', 'set', 'eth0', 'address', guest.mac);
  return { node, guest: inside, ...respond(t, node, guest, options) };
}

function respond(
  t: Teardown,
  node: TestNetns,
  guest: GuestInterface,
  options: Partial<DhcpResponderOptions> = {},
): Pick<Lab, 'responder' | 'log'> {
  const log: string[] = [];
  const say = (message: string): void => void log.push(message);
  const responder = openDhcpResponder(native, {
    ifName: 'tap0',
    netns: node.path,
    guest,
    hostname: 'web-0',
    logger: { debug: say, info: say, warn: say, error: say },
    ...options,
  });
  t.teardown(() => responder.close());
  return { responder, log };
}

interface Program {
  readonly child: ChildProcess;
  /** The next line of stdout that matches. */
  line(wanted: RegExp): Promise<string>;
}

/** Starts a program in a namespace, ended with the test if it has not ended by itself. */
function run(t: Teardown, netns: TestNetns, ...command: string[]): Program {
  const child = spawn('ip', ['netns', 'exec', netns.name, ...command], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const line = async (wanted: RegExp): Promise<string> => {
    for (;;) {
      const next = await lines.next();
      if (next.done === true) throw new Error(`${command.join(' ')} ended without ${String(wanted)}`);
      if (wanted.test(next.value)) return next.value;
    }
  };
  return { child, line };
}

/** udhcpc with a script that applies the address and says in one line all that it was told. */
function udhcpc(t: Teardown, netns: TestNetns): Program {
  const script = join(tempDir(t), 'script');
  writeFileSync(
    script,
    `#!/bin/sh
[ "$1" != bound ] || ip address add "$ip/$mask" dev "$interface"
echo "$1 $ip/$mask lease=$lease router=$router server=$serverid mtu=$mtu dns=$dns domain=$domain search=$search host=$hostname routes=$staticroutes"
`,
    { mode: 0o755 },
  );
  netns.exec('ip', 'link', 'set', 'eth0', 'up');
  return run(
    t,
    netns,
    'busybox',
    'udhcpc',
    '-f',
    '-i',
    'eth0',
    '-s',
    script,
    '-O',
    'search',
    '-O',
    'staticroutes',
    '-O',
    'mtu',
  );
}

const NAMES =
  'domain=default.svc.cluster.local search=default.svc.cluster.local svc.cluster.local cluster.local host=web-0';

void t.test('udhcpc gets everything, and renews by unicast to the gateway’s address', async (t) => {
  const { node, guest, responder, log } = lab(t, bridged);
  // The gateway answers ARP and has no DHCP server.
  node.exec('ip', 'address', 'add', '10.1.2.1/24', 'dev', 'tap0');
  const client = udhcpc(t, guest);
  const lease = `10.1.2.3/24 lease=4294967295 router=10.1.2.1 server=10.1.2.1 mtu=1450 dns=10.96.0.10 10.96.0.11 ${NAMES} routes=`;
  t.equal(await client.line(/^(bound|leasefail)/), `bound ${lease}`);
  // A client that runs on a busy machine may ask once more before it sees an answer.
  const { offer, ack } = responder.counters();
  t.ok(offer >= 1 && ack >= 1);
  t.match(responder.counters(), { nak: 0, unsent: 0 });

  client.child.kill('SIGUSR1');
  t.equal(await client.line(/^(renew|deconfig)/), `renew ${lease}`);
  t.ok(responder.counters().ack >= 2);

  client.child.kill('SIGUSR2');
  await client.line(/^deconfig/);
  t.strictSame(
    log.filter((line) => line.includes('DHCP')),
    ['the guest has its IPv4 address by DHCP'],
  );
});

void t.test('udhcpc on a routed network: the way to the gateway comes first', async (t) => {
  const { guest } = lab(t, routed);
  t.equal(
    await udhcpc(t, guest).line(/^(bound|leasefail)/),
    'bound 10.1.2.3/32 lease=4294967295 router=169.254.1.1 server=169.254.1.1 mtu=1450 dns=10.96.0.10 10.96.0.11 ' +
      `${NAMES} routes=169.254.1.1/32 0.0.0.0 0.0.0.0/0 169.254.1.1 10.99.0.0/17 169.254.1.1`,
  );
});

void t.test('another station on the link gets nothing', async (t) => {
  const { guest, responder } = lab(t, bridged);
  guest.exec('ip', 'link', 'set', 'eth0', 'address', '52:54:00:12:34:57', 'up');
  const client = run(
    t,
    guest,
    'busybox',
    'udhcpc',
    '-f',
    '-n',
    '-t',
    '1',
    '-T',
    '1',
    '-i',
    'eth0',
    '-s',
    '/bin/true',
  );
  const [status] = (await once(client.child, 'exit')) as [number];
  t.equal(status, 1, 'no lease');
  t.ok(
    Object.values(responder.counters()).every((count) => count === 0),
    'the kernel kept its frames from us',
  );
});

/** Sends the message of its second argument by the interface of its first, and prints the answer, all in hex. */
const DHCP6_CLIENT = `
  const socket = require('node:dgram').createSocket('udp6');
  socket.on('message', (message) => { console.log(message.toString('hex')); socket.close(); });
  socket.bind(546, () => socket.send(Buffer.from(process.argv[2], 'hex'), 547, 'ff02::1:2%' + process.argv[1]));`;

/** Where the gateway can be asked for: on the bridge that the TAP is a port of, or on the pod's link beside it. */
const askers = { 'a bridge': 'nobody', 'the pod’s link': 'guest' } as const;

for (const [where, asker] of Object.entries(askers)) {
  void t.test(`IPv6 with a gateway behind ${where}`, async (t) => {
    const [node, guest, gateway] = [testNetns(t), testNetns(t), testNetns(t)];
    node.exec('ip', 'link', 'add', 'tap0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', guest.name);
    guest.exec('ip', 'link', 'set', 'eth0', 'address', bridged.mac);
    const uplink = asker === 'nobody' ? 'port0' : 'net0';
    const up = ['link', 'add', uplink, 'type', 'veth', 'peer', 'name', 'lan', 'netns', gateway.name];
    node.exec('ip', ...up);
    if (asker === 'nobody') {
      node.exec('ip', 'link', 'add', 'net0', 'type', 'bridge');
      for (const name of ['tap0', 'port0']) node.exec('ip', 'link', 'set', name, 'master', 'net0', 'up');
    } else {
      node.exec('ip', 'link', 'set', 'net0', 'address', bridged.mac);
      node.exec('sh', '-c', 'echo 1 >/proc/sys/net/ipv6/conf/net0/disable_ipv6');
      for (const [from, to] of [
        ['tap0', 'net0'],
        ['net0', 'tap0'],
      ] as const) {
        node.exec('ip', 'link', 'set', from, 'up');
        node.exec('tc', 'qdisc', 'add', 'dev', from, 'ingress');
        const match = 'protocol all u32 match u8 0 0 action mirred egress redirect dev';
        node.exec('tc', 'filter', 'add', 'dev', from, 'parent', 'ffff:', ...match.split(' '), to);
      }
    }
    node.exec('ip', 'link', 'set', 'net0', 'up');
    gateway.exec('ip', 'link', 'set', 'lan', 'up');
    gateway.exec('ip', 'address', 'add', 'fd00:1::1/64', 'dev', 'lan', 'nodad');
    gateway.exec('ip', 'address', 'add', '2001:db8::1/128', 'dev', 'lo');

    const settings = ['accept_ra=2', 'accept_dad=0', 'accept_ra_rt_info_max_plen=64'];
    for (const setting of settings) {
      const [name = '', value = ''] = setting.split('=');
      guest.exec('sh', '-c', `echo ${value} >/proc/sys/net/ipv6/conf/eth0/${name}`);
    }
    const router6 = { kind: 'neighbor', link: { ifName: 'net0', netns: node.path, asker } } as const;
    const { responder } = respond(t, node, bridged, { router6 });
    const routes = run(t, guest, 'ip', '-oneline', 'monitor', 'route');
    // The monitor listens once it has told of something; a route that is replaced by itself is told of to nobody.
    const listening = routes.line(/198\.51\.100\.1/);
    const probe = setInterval(() => {
      for (const change of ['add', 'delete']) guest.exec('ip', 'route', change, 'blackhole', '198.51.100.1');
    }, 20);
    await listening;
    clearInterval(probe);

    guest.exec('ip', 'link', 'set', 'eth0', 'up');
    await routes.line(/^default via fe80::76:6dff:fe00:1 dev eth0 proto ra /);

    const client = '00030001525400123456';
    const ask = async (type: number, ...options: (readonly [number, string])[]) => {
      const message = dhcp6(type, [[1, client], [3, '000000010000000000000000'], ...options]);
      const program = run(t, guest, process.execPath, '-e', DHCP6_CLIENT, 'eth0', message.toString('hex'));
      const answer = readDhcp6(Buffer.from(await program.line(/./), 'hex'));
      return { type: answer.type, options: new Map(answer.options) };
    };
    const advertise = await ask(1);
    t.equal(advertise.type, 2);
    const reply = await ask(3, [2, advertise.options.get(2)!]);
    t.equal(reply.type, 7);
    t.match(reply.options.get(3), 'fd000001000000000000000000000005ffffffffffffffff');
    t.equal(reply.options.get(23), 'fd00009600000000000000000000000a');

    t.match(guest.exec('ip', '-6', 'route', 'show'), /^fd00:1::\/64 dev eth0 proto (kernel|ra)/m);
    t.notMatch(guest.exec('ip', '-6', 'address', 'show', 'dev', 'eth0'), /fd00:/, 'no address made up');
    t.equal(guest.exec('cat', '/proc/sys/net/ipv6/conf/eth0/mtu'), '1450\n');

    guest.exec('ip', 'address', 'add', 'fd00:1::5/64', 'dev', 'eth0', 'nodad');
    const ping = async (pattern: RegExp): Promise<void> => {
      const said = run(t, guest, 'busybox', 'ping', '-c', '10', '-W', '10', '2001:db8::1');
      t.ok(await said.line(pattern), 'a host beyond the gateway');
    };
    await ping(/^64 bytes from 2001:db8::1/);
    const neighbours = (): string =>
      guest.exec('ip', '-6', 'neigh', 'show', 'fe80::76:6dff:fe00:1', 'dev', 'eth0');
    const macOfGateway = (): string => gateway.exec('cat', '/sys/class/net/lan/address').trim();
    t.match(neighbours(), new RegExp(`lladdr ${macOfGateway()} .*router`));
    // The kernel asks again after four seconds.
    t.ok(responder.counters()['router-advertisement'] >= 1);
    t.match(responder.counters(), {
      advertise: 1,
      reply: 1,
      malformed: 0,
      unsent: 0,
    });

    // A gateway that is replaced: the guest asks anew, and so do we.
    gateway.exec('ip', 'link', 'set', 'lan', 'address', '02:00:00:00:00:98');
    guest.exec('ip', '-6', 'neigh', 'flush', 'dev', 'eth0');
    await ping(/^64 bytes from 2001:db8::1/);
    t.match(neighbours(), /lladdr 02:00:00:00:00:98 /);
  });
}

const VNET_HEADER = 10;
const IFF_TAP_NO_PI_VNET_HDR = 0x0002 | 0x1000 | 0x4000;

/** A TAP whose guest is this test. */
function tap(t: Teardown, node: TestNetns): number {
  const fd = inNetworkNamespace(native, node.path, () => {
    const made = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
    native.tunSetIff(made, 'tap0', IFF_TAP_NO_PI_VNET_HDR);
    return made;
  });
  t.teardown(() => closeSync(fd));
  node.exec('ip', 'link', 'set', 'tap0', 'up');
  return fd;
}

/** Sends a frame as the guest and resolves with the first answer by DHCP, virtio-net header and frame. */
async function exchange(fd: number, request: Buffer): Promise<{ header: Buffer; frame: Buffer }> {
  const alive = setInterval(() => undefined, 60_000);
  try {
    return await new Promise((resolve) => {
      native.watchReadable(fd, () => {
        const bytes = Buffer.alloc(4096);
        const length = readSync(fd, bytes, 0, bytes.length, null);
        const frame = bytes.subarray(VNET_HEADER, length);
        // A bridge asks its ports by IGMP who is there: UDP alone is an answer.
        const answer = frame.readUInt16BE(12) === 0x0800 && frame.readUInt8(23) === 17;
        if (answer) resolve({ header: bytes.subarray(0, VNET_HEADER), frame });
      });
      writeSync(fd, Buffer.concat([Buffer.alloc(VNET_HEADER), request]));
    });
  } finally {
    clearInterval(alive);
    native.unwatch(fd);
  }
}

void t.test('on a TAP, in front of everything that takes the frames away', async (t) => {
  const discover = udp4Frame(dhcp4({ options: [[53, '01']] }));
  const settings: Readonly<Record<string, readonly string[]>> = {
    nothing: [],
    'a port of a bridge': [
      'ip link add br0 type bridge',
      'ip link set br0 up',
      'ip link set tap0 master br0',
    ],
    'tc that redirects all to the pod’s link': [
      'ip link add eth0 type veth peer name other',
      'ip link set eth0 up',
      'tc qdisc add dev tap0 ingress',
      'tc filter add dev tap0 parent ffff: protocol all u32 match u8 0 0 action mirred egress redirect dev eth0',
    ],
    'nftables that drop all': [
      'nft add table netdev t',
      'nft add chain netdev t c { type filter hook ingress device tap0 priority 0; policy drop; }',
    ],
  };
  for (const [name, commands] of Object.entries(settings)) {
    await t.test(name, async (t) => {
      const node = testNetns(t);
      const fd = tap(t, node);
      for (const command of commands) node.exec(...(command.split(' ') as [string, ...string[]]));
      const { responder } = respond(t, node, bridged);
      const { header, frame } = await exchange(fd, discover);
      t.equal(header.toString('hex'), '00'.repeat(VNET_HEADER), 'nothing is left for the guest’s card to do');
      const read = readFrame(frame);
      t.match(read, { to: GUEST_MAC, ports: [67, 68] });
      t.equal(readDhcp4(read.payload).yiaddr, '10.1.2.3');
      t.match(responder.counters(), { offer: 1, unsent: 0 });
    });
  }
});

void t.test('a guest that floods us is heard 50 times a second, and logged once', async (t) => {
  const node = testNetns(t);
  const fd = tap(t, node);
  const { responder, log } = respond(t, node, { ...bridged, addresses: bridged.addresses.slice(0, 1) });
  const discover = Buffer.concat([Buffer.alloc(VNET_HEADER), udp4Frame(dhcp4({ options: [[53, '01']] }))]);
  const started = performance.now();
  for (let i = 0; i < 20_000; i++) {
    writeSync(fd, discover);
    if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const windows = Math.floor((performance.now() - started) / 1000) + 1;
  const { offer, flood } = responder.counters();
  t.ok(offer > 0 && offer <= 50 * windows, `${offer} offers in ${windows} s`);
  t.ok(flood <= windows);
  t.ok(log.length <= 1, log.join());
});
