import { ANNOTATION_PREFIX } from '../core/annotations.ts';
import { VmError } from '../core/errors.ts';
import { limitedVcpus } from '../core/parse-cpus.ts';
import type { CpuResources, VmSpec } from '../core/vm-spec.ts';
import { plugVcpus } from '../qemu/plug-vcpus.ts';
import type { QmpExecutor } from '../qemu/qmp-commands.ts';

type GrowingVm = Pick<VmSpec, 'name' | 'vcpus' | 'maxVcpus' | 'vcpusFollowLimit' | 'resources'>;

/**
 * How many vCPUs a changed CPU limit asks for; undefined where their number does not follow it. Fewer than there are is
 * nobody's loss: the cgroup takes the time away, not the CPU.
 * @throws VmError FailedPrecondition for more than the VM was made for.
 */
export function askedVcpus(vm: GrowingVm, limits: CpuResources): number | undefined {
  if (!vm.vcpusFollowLimit) return undefined;
  const { cpuPeriod } = vm.resources;
  const asked = limitedVcpus({ cpuQuota: limits.cpuQuota, cpuPeriod: limits.cpuPeriod ?? cpuPeriod });
  if (asked === undefined || asked <= vm.vcpus) return undefined;
  if (asked <= vm.maxVcpus) return asked;
  throw new VmError(
    'FailedPrecondition',
    `the CPU limit asks for ${asked} vCPUs, but VM "${vm.name}" was created for at most ${vm.maxVcpus}: recreate it with ${ANNOTATION_PREFIX}max-cpus of ${asked} or more`,
  );
}

/** Plugs vCPUs into a running VM, one request after the other. */
export class VcpuGrowth {
  readonly #qmp: QmpExecutor;
  #count: number;
  #last: Promise<unknown> = Promise.resolve();

  constructor(qmp: QmpExecutor, count: number) {
    this.#qmp = qmp;
    this.#count = count;
  }

  /** vCPUs that the machine has. */
  get count(): number {
    return this.#count;
  }

  /** Resolves when the machine has at least `count`; its guest may take them into use later. */
  async growTo(count: number, signal: AbortSignal): Promise<void> {
    const turn = this.#last.then(async () => {
      this.#count = await plugVcpus(this.#qmp, count, { signal });
    });
    this.#last = turn.catch(() => undefined);
    await turn;
  }
}
