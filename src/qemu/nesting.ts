import { VmError } from '../core/errors.ts';
import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';

/**
 * Whether KVM's module lets guests be hypervisors (its parameter `nested`: Y, N, 1 or 0).
 * @throws VmError FailedPrecondition where it does not, since the guest would miss it without a word.
 * @param root stands for `/`.
 */
export function expectNesting(host: Host, root = ''): void {
  const allows = ['kvm_intel', 'kvm_amd'].some((module) => {
    const path = `${root}/sys/module/${module}/parameters/nested`;
    return /^[Y1]/.test(absentIs('', () => host.readText(path)));
  });
  if (allows) return;
  throw new VmError(
    'FailedPrecondition',
    'annotation vmshim.io/nested-virtualization is "on", but KVM of this node does not let guests be hypervisors: load kvm_intel or kvm_amd with nested=1, or remove the annotation',
  );
}
