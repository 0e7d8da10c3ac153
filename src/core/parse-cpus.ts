import { ANNOTATION_PREFIX, type AnnotationValues } from './annotations.ts';
import type { Config } from './config.ts';
import { VmError } from './errors.ts';
import { isVcpus, MAX_VCPUS } from './parse-choices.ts';
import type { CpuResources, MachineKind, VmSpec } from './vm-spec.ts';

/** Kubelet's and the kernel's own, where nobody says another. */
const CFS_PERIOD_US = 100_000;

type Cpus = Pick<
  VmSpec,
  'vcpus' | 'maxVcpus' | 'vcpusFollowLimit' | 'cpuModel' | 'nested' | 'numa' | 'cpuPinning'
>;

/** How many vCPUs a VM has and may get, of what kind, and where. @throws VmError InvalidArgument. */
export function parseCpus(
  said: AnnotationValues,
  limits: CpuResources,
  machine: MachineKind,
  config: Config,
): Cpus {
  const vcpus = said.cpus ?? limitedVcpus(limits) ?? config.defaults.cpus;
  if (!isVcpus(vcpus)) {
    throw new VmError(
      'InvalidArgument',
      `the CPU limit asks for ${vcpus} vCPUs; a VM has at most ${MAX_VCPUS}: lower limits.cpu or set ${ANNOTATION_PREFIX}cpus`,
    );
  }
  const cpus = {
    vcpus,
    maxVcpus: said['max-cpus'] ?? vcpus,
    vcpusFollowLimit: said.cpus === undefined || said['max-cpus'] !== undefined,
    cpuModel: said['cpu-model'] ?? config.defaults.cpuModel,
    nested: said['nested-virtualization'] === 'on',
    numa: said.numa ?? { kind: config.numa.placement },
    cpuPinning: said['cpu-pinning'] ?? 'shared',
  } as const;
  checkGrowth(cpus, machine);
  checkNesting(cpus);
  return cpus;
}

/** vCPUs that a CPU limit stands for, rounded up; undefined for no limit. */
export function limitedVcpus({
  cpuQuota,
  cpuPeriod,
}: Pick<CpuResources, 'cpuQuota' | 'cpuPeriod'>): number | undefined {
  if (cpuQuota === undefined || cpuQuota <= 0) return undefined;
  return Math.ceil(cpuQuota / (cpuPeriod ?? CFS_PERIOD_US));
}

function checkGrowth({ vcpus, maxVcpus, numa, cpuPinning }: Cpus, machine: MachineKind): void {
  if (maxVcpus === vcpus) return;
  const wrong = (why: string): VmError =>
    new VmError('InvalidArgument', `annotation ${ANNOTATION_PREFIX}max-cpus is "${maxVcpus}", ${why}`);
  if (maxVcpus < vcpus) throw wrong(`but the VM starts with ${vcpus} vCPUs; raise it or remove it`);
  const remedy = `remove it or set ${ANNOTATION_PREFIX}`;
  if (machine === 'microvm')
    throw wrong(`but a microvm takes no CPUs while it runs: ${remedy}machine to "q35"`);
  if (numa.kind === 'spread')
    throw wrong(
      `but the vCPUs of a VM that is spread over nodes are divided for good: ${remedy}numa to "auto"`,
    );
  if (cpuPinning === 'dedicated')
    throw wrong(`but dedicated CPUs are taken for good: ${remedy}cpu-pinning to "shared"`);
}

function checkNesting({ nested, cpuModel }: Cpus): void {
  if (!nested || cpuModel === 'default' || cpuModel === 'host') return;
  throw new VmError(
    'InvalidArgument',
    `annotation ${ANNOTATION_PREFIX}nested-virtualization is "on", which only the host’s own CPU offers, not "${cpuModel}": set ${ANNOTATION_PREFIX}cpu-model to "host"`,
  );
}
