import { VmError } from '../core/errors.ts';
import type { QemuOption } from './option.ts';
import type { QemuInput } from './qemu-input.ts';

/**
 * Hyper-V's interfaces as Windows uses them, each known to QEMU 7.2 and later and to KVM since Linux 5.0; QEMU does not
 * start with one that its kernel lacks, so nothing newer is here. Left out on purpose: `hv-evmcs` and `hv-avic`, which
 * want a certain CPU, `hv-reenlightenment`, which is for guests that are moved to another CPU frequency, and what only
 * nested Hyper-V looks at. Source: QEMU's docs/system/i386/hyperv.rst.
 */
const HYPERV = {
  'hv-relaxed': true,
  'hv-vapic': true,
  // How often a lock is tried before the hypervisor is told; Windows Server's own default.
  'hv-spinlocks': 0x1fff,
  'hv-vpindex': true,
  'hv-runtime': true,
  'hv-time': true,
  'hv-synic': true,
  'hv-stimer': true,
  'hv-stimer-direct': true,
  'hv-reset': true,
  'hv-frequencies': true,
  'hv-tlbflush': true,
  'hv-ipi': true,
} as const;

/** What Intel and AMD call it; a name that the processor does not know may be turned off. */
const NO_NESTING = { vmx: false, svm: false } as const;

/**
 * Models that migrate everywhere are named by their year of birth: this one has all of x86-64-v2 (x86-64 psABI) and nothing
 * that an AMD processor or a newer Intel lacks.
 */
const BASELINE = 'Nehalem';

/**
 * Model and features. Hyper-V's interfaces are KVM's; TCG has none of them. A guest that is not to be a hypervisor does
 * not get at KVM's code for that, which is much and new.
 */
export function planCpu(input: QemuInput): QemuOption {
  if (input.accel !== 'kvm') return { flag: '-cpu', head: cpuModel(input), keys: {} };
  const { hardware, nested } = input.spec;
  const keys = { ...(nested ? {} : NO_NESTING), ...(hardware.hyperv ? HYPERV : {}) };
  return { flag: '-cpu', head: cpuModel(input), keys };
}

/** -cpu has a grammar of its own without any quoting, so only a bare model name passes. */
function cpuModel(input: QemuInput): string {
  const model = input.spec.cpuModel;
  if (model === 'default') return input.accel === 'kvm' ? 'host' : 'max';
  if (model === 'baseline') return BASELINE;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(model)) {
    throw new VmError(
      'InvalidArgument',
      `CPU model ${JSON.stringify(model)} is not a model name; use one that "qemu-system-x86_64 -cpu help" lists, without features`,
    );
  }
  return model;
}
