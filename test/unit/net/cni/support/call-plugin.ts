import { runPlugin } from '../../../../../src/net/cni/run-plugin.ts';
import type { NodeTree } from './node-tree.ts';

export const SANDBOX = 'c0ffee';

/** Calls vm-tap as a runtime does, for `eth0` of one sandbox; variables set to undefined are left out. */
export async function callPlugin(
  host: NodeTree,
  command: string,
  config: object | string,
  variables: Readonly<Record<string, string | undefined>> = {},
): Promise<{ status: number; answer: unknown }> {
  const output = await runPlugin(host, {
    variables: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: SANDBOX,
      CNI_NETNS: host.netns,
      CNI_IFNAME: 'eth0',
      CNI_PATH: host.plugins,
      CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_UID=uid-1',
      PATH: '/usr/bin',
      ...variables,
    },
    stdin: () => (typeof config === 'string' ? config : JSON.stringify(config)),
  });
  return { status: output.status, answer: output.stdout === '' ? undefined : JSON.parse(output.stdout) };
}

/** A configuration of a network on a bridge `br0`, with addresses from a plugin `fake-ipam`. */
export function bridgeNetwork(host: NodeTree, more: object = {}): Record<string, unknown> {
  return {
    cniVersion: '1.1.0',
    name: 'vms',
    type: 'vm-tap',
    bridge: 'br0',
    stateDir: host.stateDir,
    ipam: { type: 'fake-ipam' },
    ...more,
  };
}

/** What `fake-ipam` of the tests answers to ADD. */
export const IPAM_ANSWER = {
  cniVersion: '1.0.0',
  ips: [
    { address: '10.1.0.5/24', gateway: '10.1.0.1' },
    { address: 'fd00:1:0:0::5/64', gateway: 'FD00:1::1' },
  ],
  routes: [{ dst: '10.96.0.0/12' }],
  dns: { nameservers: ['10.96.0.10'], domain: 'cluster.local', search: ['svc.cluster.local'] },
};

export const ANSWER_ADD = `[ "$CNI_COMMAND" != ADD ] || echo '${JSON.stringify(IPAM_ANSWER)}'`;

/** A plugin's failure: JSON on stdout, exit status 1. */
export function failing(code: number, msg: string): string {
  return `echo '${JSON.stringify({ code, msg })}'; exit 1`;
}
