import { closeSync, openSync } from 'node:fs';
import { buildAddon } from '../../scripts/build-addon.ts';
import type { ExecOptions, ExecResult } from '../../src/host/host.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { loadNative, type Native } from '../../src/host/native.ts';
import { inEmptyNetwork } from '../../src/host/network-namespace.ts';
import { execInNetns, type Netns, runBatch } from '../../src/net/ip-command.ts';
import type { Teardown } from './temp-dir.ts';

/** A machine without Open vSwitch, whatever is installed here. */
export class HostWithoutOvs extends LinuxHost {
  override exec(file: string, args: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return super.exec(file === 'ovs-vsctl' ? 'no-ovs-vsctl' : file, args, options);
  }
}

/** A network of the test's own, with all its namespaces; nothing of it can outlive this process. */
export interface NetworkLab {
  readonly host: LinuxHost;
  readonly native: Native;
  /** A new empty namespace, as a path that works in this process and its children. */
  netns(t: Teardown): string;
  ip(netns: Netns, ...commands: readonly string[]): Promise<void>;
  run(netns: Netns, file: string, ...args: readonly string[]): Promise<string>;
}

/**
 * Moves this process's main thread, and with it every command it starts, into a new network namespace that stands for
 * the node's. IPv6 starts off there and in the others, so that nothing talks but the test; /sys still shows the old one.
 */
export function networkLab(): NetworkLab {
  buildAddon();
  loadNative().unshareNet();
  return networkLabHere();
}

/** The same for a process that has a network namespace of its own already, and /sys and /proc to go with it. */
export function networkLabHere(): NetworkLab {
  const native = loadNative();
  const host = new LinuxHost(() => native);
  const quiet = (): void => host.writeText('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
  quiet();
  return {
    host,
    native,
    netns: (t) => {
      const fd = inEmptyNetwork(native, () => {
        quiet();
        return openSync('/proc/thread-self/ns/net', 'r');
      });
      t.teardown(() => closeSync(fd));
      return `/proc/${process.pid}/fd/${fd}`;
    },
    ip: (netns, ...commands) =>
      runBatch(
        host,
        'ip',
        netns,
        commands.map((command) => command.split(' ')),
      ),
    run: async (netns, file, ...args) => (await execInNetns(host, netns, file, args)).stdout,
  };
}
