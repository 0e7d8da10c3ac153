import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Test } from 'tap';
import type { VmRecord } from '../../src/vm/record.ts';
import { criContainerd, type CriNode } from './cri-containerd.ts';
import { hostLocal } from './cri-node-network.ts';
import type { ContainerOptions, CriContainer, CriPod } from './cri-pod.ts';
import { vmImage } from './vm-image.ts';
import { vmRecord } from './vm-record.ts';

export const MIB = 2 ** 20;

/** A file below /sys or /proc. */
export const read = (path: string): string => readFileSync(path, 'utf8').trim();

/** What the pods may run on, as a list: `1-2`. */
export const ALLOWED_CPUS = read('/sys/fs/cgroup/cpuset.cpus.effective');

/** A node where systemd makes the pods' cgroups, and the VM that its pods run. */
export interface SliceNode {
  readonly node: CriNode;
  readonly spec: ContainerOptions;
  /** Resolves when the guest is up. */
  readonly start: (pod: CriPod) => Promise<CriContainer>;
  readonly recordOf: (vm: CriContainer) => VmRecord;
  /** Resolves when no scope is left, which systemd learns by itself. What else a pod leaves is judged when all have gone. */
  readonly noScope: () => Promise<void>;
}

/** containerd with its CRI plugin as on production nodes of today: systemd is the init, cgroup v2 is alone, systemd has the cgroups. */
export async function criSliceNode(t: Test): Promise<SliceNode> {
  const node = await criContainerd(t, {
    cgroupDriver: 'systemd',
    vmPlugins: (network, stateDir) => [
      { type: 'vm-tap', bridge: network.bridge, isGateway: true, stateDir, ipam: hostLocal(network) },
    ],
  });
  const spec = {
    stdin: true,
    annotations: (await vmImage()).kernelBoot,
    resources: {
      cpuPeriod: 100_000,
      cpuQuota: 150_000,
      cpuShares: 512,
      cpusetCpus: ALLOWED_CPUS,
      memoryLimitInBytes: 128 * MIB,
    },
  };
  return {
    node,
    spec,
    start: async (pod) => {
      const vm = await pod.start(spec);
      await vm.log.until(/vmguest: ready/);
      return vm;
    },
    recordOf: ({ id }) => vmRecord(node.containerd, id, 'k8s.io'),
    noScope: async () => {
      while (node.cgroups.left().length > 0) await delay(50);
    },
  };
}
