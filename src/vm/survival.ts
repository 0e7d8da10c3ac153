import { createHash } from 'node:crypto';
import type { Config } from '../core/config.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { Host } from '../host/host.ts';
import { growthRoom } from '../qemu/plan-growth.ts';
import type { MachineRequest } from './machine-request.ts';
import type { MachineFacts } from './machine-parts.ts';
import type { Survival } from './record.ts';
import type { RootfsMount } from './rootfs-mount.ts';

/** What stays the same when kubelet makes sandbox and container anew: a pod has one VM. */
export function ownerOf({ owner, namespace, id }: Pick<VmSpec, 'owner' | 'namespace' | 'id'>): string {
  const parts = owner.kind === 'pod' ? ['pod', namespace, owner.uid] : ['container', namespace, id];
  return createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 20);
}

/**
 * All of a spec that the running machine shows to its guest. What can be changed live, and what only the next boot would
 * read, such as the environment, is left out: kubelet writes that anew each time.
 */
export function makeupOf(spec: VmSpec, rootfs: readonly RootfsMount[]): string {
  const { uuid, vcpus, memoryBytes, cpuModel, accel, machine, firmware, hardware, boot, network } = spec;
  const { rootPlace, rootDiskBytes, disks, shared, numa, cpuPinning, hugepageBytes } = spec;
  const container = spec.owner.kind === 'pod' ? spec.owner.container : spec.id;
  const shown = { uuid, vcpus, memoryBytes, cpuModel, accel, machine, firmware, hardware, boot, network };
  const kept = { rootPlace, rootDiskBytes, disks, shared, numa, cpuPinning, hugepageBytes };
  const all = { container, ...shown, ...kept, layers: layersOf(rootfs) };
  return createHash('sha256').update(JSON.stringify(all)).digest('hex');
}

/**
 * Whether a machine that runs can go on as what is asked for. kubelet may raise and lower limits while the pod runs: a
 * machine that has places for the vCPUs and the RAM of now is the same one, with however much it was started.
 */
export function isMachineOf(
  { makeup, vcpus, memory }: Pick<Survival, 'makeup' | 'vcpus' | 'memory'>,
  spec: VmSpec,
  rootfs: readonly RootfsMount[],
): boolean {
  if (vcpus === undefined) return makeupOf(spec, rootfs) === makeup;
  if (spec.vcpus > vcpus.places) return false;
  // Of huge pages neither balloon nor plugged RAM is made.
  const live = memory !== undefined && spec.hugepageBytes === undefined;
  if (live && spec.memoryBytes > memory.places) return false;
  const memoryBytes = live ? memory.started : spec.memoryBytes;
  return makeupOf({ ...spec, vcpus: vcpus.started, memoryBytes }, rootfs) === makeup;
}

/** Which image it is, where the snapshotter tells: overlay's lower directories are the same ones for the same layers. */
function layersOf(rootfs: readonly RootfsMount[]): readonly string[] {
  return rootfs
    .filter(({ type }) => type === 'overlay')
    .flatMap(({ options }) => options.filter((option) => option.startsWith('lowerdir=')));
}

export function survivalOf(
  host: Host,
  { spec, config, rootfs, netns }: Pick<MachineRequest, 'spec' | 'config' | 'rootfs' | 'netns'>,
  made: Pick<Survival, 'logStart' | 'plan'> & { readonly facts: MachineFacts },
): Survival | undefined {
  if (spec.onShimDeath !== 'survive') return undefined;
  const { facts, logStart, plan } = made;
  // The pod's namespace goes with its sandbox, and with it the network of what is in it.
  if (spec.network.mode === 'user' && netns !== undefined) return undefined;
  const { cgroup: _, ...told } = facts;
  return {
    owner: ownerOf(spec),
    makeup: makeupOf(spec, rootfs.mounts),
    vcpus: { started: spec.vcpus, places: spec.maxVcpus },
    memory: {
      started: spec.memoryBytes,
      places: spec.memoryBytes + growthRoom(spec, plan.ram),
    },
    logStart,
    facts: told,
    plan,
    deadlineMs: config.orphan.deadline * 1000,
    graceMs: config.orphan.grace * 1000,
    console: config.console,
    podDir: podDirOf(host, spec, config),
  };
}

/** kubelet makes it before the pod's containers; where there is none now, kubelet is not who runs this pod. */
function podDirOf(host: Host, { owner }: VmSpec, { kubeletDir }: Config): string | undefined {
  if (owner.kind !== 'pod' || !/^[\w.-]+$/.test(owner.uid)) return undefined;
  const path = `${kubeletDir}/pods/${owner.uid}`;
  return host.inspect(path) === undefined ? undefined : path;
}

/** What was decided when the machine was made, but for the cgroup. */
export function factsOf({ facts }: Survival): Omit<MachineFacts, 'cgroup'> {
  return facts as unknown as Omit<MachineFacts, 'cgroup'>;
}
