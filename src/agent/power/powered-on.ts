import type { Condition } from '../kube/pod-view.ts';
import type { VmView } from '../vms/vm-view.ts';

/**
 * The pod's condition for what its VM is doing; undefined when nobody can tell. True means that the guest's processors run
 * or are to run at any moment, not that what is in the guest works: that is what probes are for.
 */
export function poweredOn(vm: VmView): Condition | undefined {
  switch (vm.t) {
    case 'new':
    case 'silent':
      return undefined;
    case 'ended':
      return no('Ended', vm.reason);
    case 'answers':
      break;
  }
  const { powerState, powerReason: message } = vm;
  switch (powerState) {
    case 'on':
      return { status: 'True', reason: 'PoweredOn', message };
    case 'off':
      return no('PoweredOff', message);
    case 'paused':
      return no('Paused', message);
    case 'starting':
      return no('Starting', message);
    case 'stopping':
      return no('Stopping', message);
  }
}

function no(reason: string, message: string): Condition {
  return { status: 'False', reason, message };
}
