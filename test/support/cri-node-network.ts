import { execFileSync, spawn } from 'node:child_process';
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { execa } from 'execa';
import { type Teardown, tempDir } from './temp-dir.ts';

/**
 * The network namespace that stands for a node's own: containerd and its CNI plugins run in it, so that bridges, TAPs
 * and firewall rules never touch the machine's.
 */
export class NodeNetwork {
  /** Command that enters the namespace and becomes what follows it. */
  readonly enter: readonly string[];

  private constructor(file: string) {
    this.enter = ['nsenter', `--net=${file}`];
  }

  /** An empty namespace with its loopback up; gone when the test ends. */
  static async make(t: Teardown): Promise<NodeNetwork> {
    const file = join(tempDir(t), 'net');
    writeFileSync(file, '');
    await execa('unshare', [`--net=${file}`, 'true']);
    t.teardown(() => execa('umount', [file]));
    const network = new NodeNetwork(file);
    await network.run('ip', 'link', 'set', 'lo', 'up');
    return network;
  }

  /** Stdout of a command in the namespace; rejects on a non-zero exit. */
  async run(...command: string[]): Promise<string> {
    const [file = '', ...args] = [...this.enter, ...command];
    return (await execa(file, args, { stdin: 'ignore' })).stdout;
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

/** Links other than the bridge, addresses that are still taken, and results that libcni still keeps. */
export function cniLeft(node: NodeNetwork, { name, bridge, leases }: BridgeNetwork): string[] {
  const links = node.links().filter((link) => link !== 'lo' && link !== bridge);
  const files = [
    ...globSync([`${leases}/${name}/*.*`, `${leases}/${name}/*:*`]).filter(
      (path) => !path.includes('last_reserved_ip'),
    ),
    ...globSync(`/var/lib/cni/results/${name}-*`),
  ];
  return [...links.map((link) => `link ${link}`), ...files.map((path) => `file ${path}`)];
}
