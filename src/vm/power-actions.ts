import { expectState } from './machine-state.ts';
import type { PowerRequest } from './power-request.ts';
import type { PowerSpec } from '../core/power-spec.ts';
import type { Machine } from './machine.ts';
import type { PowerState } from './power-state.ts';

/** What of a VM is switched. */
export interface SwitchedVm {
  readonly spec: { readonly power: PowerSpec };
  readonly power: PowerState;
  readonly machine: Machine;
  switchOff(then: 'off' | 'boot', how: { readonly graceMs: number } | 'kill', why: string): Promise<void>;
  switchOn(): Promise<void>;
  hold(signal: AbortSignal): Promise<void>;
  resume(signal: AbortSignal): Promise<void>;
  reset(signal: AbortSignal): Promise<void>;
  expectOn(operation: string): Machine;
}

/** A request is carried out to its end: who asked for it may go away. */
const { signal } = new AbortController();

/**
 * Carries out what an operator wants. @returns what there is to say.
 * @throws VmError FailedPrecondition for what makes no sense in the VM's state, and whatever goes wrong.
 */
export async function performPower(
  vm: SwitchedVm,
  { action, graceMs, force }: PowerRequest,
): Promise<string> {
  switch (action) {
    case 'stop':
      return await stop(vm, force ? 'kill' : { graceMs });
    case 'start':
      return await start(vm);
    case 'reset':
      return await reset(vm);
    case 'reboot':
      await vm.switchOff('boot', { graceMs }, 'an operator rebooted it');
      return '';
    case 'pause':
      await vm.hold(signal);
      return '';
    case 'resume':
      await vm.resume(signal);
      return '';
    case 'nmi':
      await vm.expectOn('send an NMI').nmi(signal);
      return '';
  }
}

async function stop(vm: SwitchedVm, how: { readonly graceMs: number } | 'kill'): Promise<string> {
  const { power } = vm;
  await vm.switchOff('off', how, 'an operator stopped it');
  return power.t === 'off' ? 'the VM was off already' : '';
}

async function start(vm: SwitchedVm): Promise<string> {
  const { power } = vm;
  if (power.t === 'on') expectState(vm.machine.state, 'start', 'running', 'paused');
  await vm.switchOn();
  if (power.t !== 'on') return '';
  return vm.machine.state.t === 'paused'
    ? 'the VM was on already, and is paused; "resume" lets it go on'
    : 'the VM was on already';
}

async function reset(vm: SwitchedVm): Promise<string> {
  vm.expectOn('reset');
  // Where a reset is the guest's end (`-no-reboot`), the reset button would be one as well.
  if (vm.spec.power.onReboot === 'restart') await vm.reset(signal);
  else await vm.switchOff('boot', 'kill', 'an operator reset it');
  return '';
}
