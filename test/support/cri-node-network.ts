import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync, readFileSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { execa } from 'execa';
import { ExpectText } from './expect-text.ts';
import { type Teardown, tempDir } from './temp-dir.ts';
import type { TestNetns } from './test-netns.ts';

/**
 * Makes /sys show the namespace's own links, and keeps the cgroups where they were: those lie below it. Like a node, it has
 * an uplink with a default route.
 */
const SETUP = `
mount --rbind /sys/fs/cgroup "$0"
mount -t sysfs sysfs /sys
mount --move "$0" /sys/fs/cgroup
ip link set lo up
ip link add uplink0 type veth peer name uplink1
ip address add 192.0.2.2/24 dev uplink0
ip link set uplink1 up
ip link set uplink0 up
ip route add default via 192.0.2.1
echo ready
exec cat`;
const OWN_LINKS = ['lo', 'uplink0', 'uplink1'];

/**
 * The network namespace that stands for a node's own: containerd and its CNI plugins run in it, so that bridges, TAPs
 * and firewall rules never touch the machine's. It comes with a mount namespace, because /sys/class/net shows the
 * links of whoever mounted it; so what containerd mounts is not seen from outside. Both live as long as a process of ours.
 */
export class NodeNetwork {
  /** Command that enters the namespaces and becomes what follows it. */
  readonly enter: readonly string[];
  /** Where its file system is seen from outside, with what is mounted inside. */
  readonly root: string;
  /** Path of its network namespace. */
  readonly netns: string;
  readonly #pid: number;

  private constructor(pid: number) {
    this.#pid = pid;
    this.root = `/proc/${pid}/root`;
    this.netns = `/proc/${pid}/ns/net`;
    this.enter = ['nsenter', `--mount=/proc/${pid}/ns/mnt`, `--net=${this.netns}`];
  }

  /** A namespace with a loopback and an uplink; gone when the test ends. */
  static async make(t: Teardown): Promise<NodeNetwork> {
    const args = ['--net', '--mount', '--propagation=private', 'sh', '-euc', SETUP, tempDir(t)];
    const holder = spawn('unshare', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    t.teardown(async () => {
      const ended = once(holder, 'close');
      holder.stdin.end();
      await ended;
    });
    await new ExpectText(holder.stdout).until('ready');
    return new NodeNetwork(holder.pid ?? 0);
  }

  /** Where something is mounted below a directory. */
  mounts(directory: string): string[] {
    return readFileSync(`/proc/${this.#pid}/mountinfo`, 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((path) => path.startsWith(`${directory}/`));
  }

  /** Stdout of a command in the namespace; rejects on a non-zero exit. */
  async run(...command: string[]): Promise<string> {
    const [file = '', ...args] = [...this.enter, ...command];
    return (await execa(file, args, { stdin: 'ignore' })).stdout;
  }

  /** Gives the far end of the uplink to a network namespace that stands for the world outside, with an address each. */
  async joinOutside(outside: TestNetns): Promise<{ readonly node: readonly string[] }> {
    const [, , net = ''] = this.enter;
    // Names of namespaces are files of our mount namespace.
    await execa('nsenter', [net, 'ip', 'link', 'set', 'uplink1', 'netns', outside.name]);
    outside.exec('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'uplink1');
    outside.exec('ip', 'address', 'add', '2001:db8::1/64', 'dev', 'uplink1', 'nodad');
    outside.exec('ip', 'link', 'set', 'uplink1', 'up');
    await this.run('ip', 'address', 'add', '2001:db8::2/64', 'dev', 'uplink0', 'nodad');
    return { node: ['192.0.2.2', '2001:db8::2'] };
  }

  /** Names of its links. */
  links(): string[] {
    const [file, ...args] = [...this.enter, 'ip', '-json', 'link'];
    const found = JSON.parse(execFileSync(file, args, { encoding: 'utf8' })) as { ifname: string }[];
    return found.map(({ ifname }) => ifname);
  }

  /** A TCP connection made inside the namespace. */
  connect(host: string, port: number): Duplex {
    const [file, ...args] = [...this.enter, 'busybox', 'nc', host, String(port)];
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const duplex = Duplex.from({ readable: child.stdout, writable: child.stdin });
    duplex.once('close', () => child.kill());
    return duplex;
  }
}

/** A network as an administrator writes it: the stock `bridge` plugin with addresses of both families. */
export interface BridgeNetwork {
  /** Of the network, and of files about it. */
  readonly name: string;
  readonly bridge: string;
  /** First three numbers of an IPv4 /24. */
  readonly prefix4: string;
  /** An IPv6 /64 without the trailing `::`. */
  readonly prefix6: string;
  /** Where host-local keeps one file per address that is taken. */
  readonly leases: string;
}

/** A CNI network configuration list (CNI spec 1.0.0 §1). */
export function networkConfig({ name }: BridgeNetwork, plugins: readonly object[]): string {
  return JSON.stringify({ cniVersion: '1.0.0', name, plugins });
}

/** The stock bridge, with the node as gateway. */
export function bridgePlugins(network: BridgeNetwork): object[] {
  return [
    { type: 'bridge', bridge: network.bridge, isGateway: true, ipam: hostLocal(network) },
    { type: 'portmap', capabilities: { portMappings: true } },
  ];
}

export function hostLocal({ leases, prefix4, prefix6 }: BridgeNetwork): object {
  return {
    type: 'host-local',
    dataDir: leases,
    ranges: [[{ subnet: `${prefix4}.0/24` }], [{ subnet: `${prefix6}::/64` }]],
    routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
  };
}

/** Links other than the node's own and the bridge, addresses that are still taken, and results that libcni still keeps. */
export function cniLeft(node: NodeNetwork, { name, bridge, leases }: BridgeNetwork): string[] {
  const links = node.links().filter((link) => ![...OWN_LINKS, bridge].includes(link));
  const files = [
    ...globSync([`${leases}/${name}/*.*`, `${leases}/${name}/*:*`]).filter(
      (path) => !path.includes('last_reserved_ip'),
    ),
    ...globSync(`/var/lib/cni/results/${name}-*`),
  ];
  return [...links.map((link) => `link ${link}`), ...files.map((path) => `file ${path}`)];
}
