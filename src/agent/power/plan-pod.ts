import type { Condition, PodView } from '../kube/pod-view.ts';
import type { VmView } from '../vms/vm-view.ts';
import { type ParsedRequest, parsePowerRequest, type PowerRequest } from './power-request.ts';
import { isFinal, parsePowerAnswer, type PowerAnswer, sameAnswer } from './power-status.ts';
import { poweredOn } from './powered-on.ts';

/** What this agent has asked the pod's VM, and what it heard of that; gone when the agent is. */
export type Asked =
  | { readonly t: 'under way'; readonly id: string }
  /** There is no such request for the VM: it was not taken. */
  | { readonly t: 'refused'; readonly id: string }
  | { readonly t: 'answered'; readonly id: string; readonly answer: PowerAnswer };

/** The next steps for a pod; none of them when all is as it should be. */
export interface PodPlan {
  /** Written before anything else. */
  readonly answer: PowerAnswer | undefined;
  /** Asked of the VM once the pod says that its request is known. */
  readonly ask: PowerRequest | undefined;
  readonly condition: Condition | undefined;
}

/**
 * What is to be done for a pod: pure, so that it is decided anew from what is true whenever anything changes, and an agent
 * that starts decides as one that never stopped.
 *
 * A request is done at most once: `running` is written before the VM is asked, and the shim knows the ids of the last ones it
 * had: asked again for one of them, it answers and does nothing.
 */
export function planPod(pod: PodView, vm: VmView | undefined, asked: Asked | undefined, now: Date): PodPlan {
  if (pod.deleting) return { answer: undefined, ask: undefined, condition: undefined };
  const { answer, ask } = planPower(pod, vm, asked, now);
  return { answer, ask, condition: planCondition(pod, vm) };
}

function planPower(
  pod: PodView,
  vm: VmView | undefined,
  asked: Asked | undefined,
  now: Date,
): Pick<PodPlan, 'answer' | 'ask'> {
  if (pod.request === undefined) return nothing;
  const written = parsePowerAnswer(pod.status);
  const parsed = parsePowerRequest(pod.request);
  const { answer, ask } = decide(parsed, written, vm, asked, now);
  return { answer: answer !== undefined && !sameAnswer(written, answer) ? answer : undefined, ask };
}

function decide(
  parsed: ParsedRequest,
  written: PowerAnswer | undefined,
  vm: VmView | undefined,
  asked: Asked | undefined,
  now: Date,
): Pick<PodPlan, 'answer' | 'ask'> {
  const say = (id: string, phase: PowerAnswer['phase'], message: string) => ({
    answer: { id, phase, message, time: now.toISOString() },
    ask: undefined,
  });
  if (parsed.t === 'problem') return say(parsed.id, 'failed', parsed.sentence);
  const { request } = parsed;
  const { id } = request;
  const known = written?.id === id ? written : undefined;
  const told = asked?.id === id ? asked : undefined;
  if (known !== undefined && isFinal(known)) return nothing;
  if (vm?.power?.id === id) return { answer: vm.power, ask: undefined };
  if (told?.t === 'answered') return { answer: told.answer, ask: undefined };
  if (told?.t === 'under way') return nothing;
  const handed = known?.phase === 'running';
  if (vm?.t === 'new') return nothing;
  if (vm?.t !== 'answers') return handed ? nothing : say(id, 'pending', waiting(vm));
  if (handed && told === undefined && vm.vm.createdAt > Date.parse(known.time))
    return say(id, 'failed', MADE_ANEW);
  // Of one that an earlier agent has handed over only the VM knows whether it was done. It says so, or refuses.
  if (handed && told === undefined) return { answer: undefined, ask: request };
  if (vm.power?.phase === 'running' && !request.force)
    return say(id, 'pending', `waiting until the VM is done with request "${vm.power.id}"`);
  return handed ? { answer: undefined, ask: request } : say(id, 'running', '');
}

const nothing = { answer: undefined, ask: undefined };
/** For an agent that was away meanwhile. */
const MADE_ANEW = 'the VM was made anew while this was asked of it; look, and ask with a new id';

function waiting(vm: VmView | undefined): string {
  if (vm === undefined) return 'waiting for the pod’s VM to be made on its node';
  if (vm.t === 'ended') return 'waiting for the pod’s VM to be made again: it has ended';
  return 'waiting for the VM’s shim, which does not answer';
}

function planCondition(pod: PodView, vm: VmView | undefined): Condition | undefined {
  // What cannot be known stays as it was said last: a guest goes on without its shim.
  if (vm === undefined) return undefined;
  const is = poweredOn(vm);
  if (is === undefined) return undefined;
  const said = pod.poweredOn;
  if (said?.status === is.status && said.reason === is.reason && said.message === is.message)
    return undefined;
  return is;
}
