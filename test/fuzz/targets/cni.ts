import { parseCniCall } from '../../../src/net/cni/cni-call.ts';
import { parseNetworkConfig, parseNetworkIdentity } from '../../../src/net/cni/network-config.ts';
import { anyText, mutateText } from '../mutate.ts';
import { type Json, mutateJson, textOf } from '../mutate-json.ts';
import { type FuzzTarget, showText } from '../target.ts';

const CONFIGS: readonly Json[] = [
  {
    ...{ cniVersion: '1.0.0', name: 'vms', type: 'vm-tap', bridge: 'br0', isGateway: true, mtu: 1450 },
    ...{ mode: 'bridge', mac: 'derived', stateDir: '/run/other', hairpin: true, isDefaultGateway: false },
    trunk: [{ minID: 2, maxID: 9 }, { id: 12 }],
    ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00::/64' }]] },
    dns: {
      nameservers: ['10.0.0.10', '::1'],
      domain: 'a.example',
      search: ['b.example'],
      options: ['ndots:5'],
    },
    capabilities: { mac: true, bandwidth: true },
    runtimeConfig: {
      mac: '02:00:00:00:00:AA',
      bandwidth: { ingressRate: 1_000_000, ingressBurst: 2000, egressRate: 5, egressBurst: 9 },
      dns: { Servers: ['10.0.0.1'], Searches: ['x'], Options: [] },
      'io.kubernetes.cri.pod-annotations': { 'vmshim.io/mac': '52:54:00:00:00:01' },
    },
    args: { cni: { mac: '02:00:00:00:00:01' } },
    prevResult: {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'eth0' }],
      ips: [{ address: '10.1.0.3/24', interface: 0 }],
    },
    'cni.dev/valid-attachments': [{ containerID: 'sb', ifname: 'eth0' }],
  },
  {
    cniVersion: '0.4.0',
    name: 'routed',
    type: 'vm-tap',
    mode: 'routed',
    ipam: { type: 'host-local', subnet: '10.0.0.0/8' },
  },
  {
    cniVersion: '1.1.0',
    name: 'ovs',
    type: 'vm-tap',
    mode: 'ovs',
    bridge: 'br-int',
    vlan: 7,
    isolated: true,
  },
];

const VARIABLES: Readonly<Record<string, string>> = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'sandbox-1',
  CNI_IFNAME: 'eth0',
  CNI_NETNS: '/run/netns/x',
  CNI_PATH: '/opt/cni/bin',
  CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_UID=0d7f6c1e;K8S_POD_NAME=web;MAC=52:54:00:00:00:09',
};

/** What a runtime says to vm-tap. */
export function cniTarget(): FuzzTarget {
  return {
    name: 'cni',
    about: 'network configuration and environment of the CNI plugin',
    make: (random) => {
      const sample = random.pick(CONFIGS);
      const config = textOf(random.below(6) === 0 ? sample : mutateJson(random, sample));
      const text = random.below(8) === 0 ? mutateText(random, config) : config;
      const variables = Object.fromEntries(
        Object.entries(VARIABLES).flatMap(([name, value]) => {
          const chance = random.below(20);
          if (chance === 0) return [];
          if (name === 'CNI_COMMAND')
            return [[name, random.pick(['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', anyText(random)])]];
          return [[name, chance < 3 ? mutateText(random, value) : value]];
        }),
      );
      return {
        show: () => showText(textOf({ variables, text })),
        run: () => {
          parseCniCall(variables);
          parseNetworkConfig(parseNetworkIdentity(text));
        },
      };
    },
  };
}
