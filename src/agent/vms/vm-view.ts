import { describeExit } from '../../core/exit.ts';
import type { VmStatus } from '../../control/control-service.ts';
import type { NodeVm } from '../../control/node-vms.ts';
import { type PowerAnswer, shimAnswer } from '../power/power-status.ts';

/** What a VM of this node is doing, as far as it can be known. */
export type VmView =
  | {
      readonly t: 'answers';
      readonly vm: NodeVm;
      readonly status: VmStatus;
      readonly powerState: PowerState;
      /** Empty where there is nothing to say. */
      readonly powerReason: string;
      /** The last request it had. */
      readonly power: PowerAnswer | undefined;
    }
  /** Its shim has not answered yet. */
  | { readonly t: 'new'; readonly vm: NodeVm; readonly power?: undefined }
  /** Its shim does not answer. */
  | { readonly t: 'silent'; readonly vm: NodeVm; readonly power?: undefined }
  /** Neither its shim nor its QEMU lives. */
  | { readonly t: 'ended'; readonly vm: NodeVm; readonly reason: string; readonly power?: undefined };

export const POWER_STATES = ['on', 'off', 'paused', 'starting', 'stopping'] as const;
export type PowerState = (typeof POWER_STATES)[number];

export function answering(vm: NodeVm, status: VmStatus): VmView {
  return {
    t: 'answers',
    vm,
    status,
    powerState: powerState(status),
    powerReason: status.powerReason ?? '',
    power: shimAnswer(status.power),
  };
}

export function unanswering(vm: NodeVm): VmView {
  if (vm.alive !== undefined) return { t: 'silent', vm };
  return { t: 'ended', vm, reason: vm.exit === undefined ? '' : describeExit(vm.exit.reason) };
}

/** The same view with a newer record. */
export function renewed(view: VmView, vm: NodeVm): VmView {
  if (view.t === 'answers') return { ...view, vm };
  return view.t === 'new' ? { ...view, vm } : unanswering(vm);
}

function powerState(status: VmStatus): PowerState {
  const said = POWER_STATES.find((state) => state === status.powerState);
  if (said !== undefined) return said;
  // The shim of an earlier version, in whose words the task's state is the VM's.
  const state = status.state ?? '';
  if (state.startsWith('paused')) return 'paused';
  if (state === 'created') return 'starting';
  return state === 'running' ? 'on' : 'off';
}
