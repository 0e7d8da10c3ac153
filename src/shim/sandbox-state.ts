import type { TaskExit } from '../core/exit.ts';

/**
 * The life of a pod's sandbox, however containerd made it. There is no process to watch, so nothing but calls change it:
 * its VM's end does not, since the pod may start another one. Times in milliseconds since the epoch.
 */
export type SandboxState =
  | { readonly t: 'created'; readonly createdAt: number }
  | { readonly t: 'ready'; readonly createdAt: number }
  /** Its VM is being brought down, which takes as long as the guest is given. */
  | { readonly t: 'stopping'; readonly createdAt: number }
  | { readonly t: 'stopped'; readonly createdAt: number; readonly exit: TaskExit };

export type SandboxEvent =
  { readonly t: 'started' } | { readonly t: 'stop-begun' } | { readonly t: 'ended'; readonly exit: TaskExit };

/** The one transition function: total; an event that means nothing in a state leaves it as it is. */
export function next(state: SandboxState, event: SandboxEvent): SandboxState {
  if (state.t === 'stopped') return state;
  const { createdAt } = state;
  switch (event.t) {
    case 'started':
      return state.t === 'created' ? { t: 'ready', createdAt } : state;
    case 'stop-begun':
      return { t: 'stopping', createdAt };
    case 'ended':
      return { t: 'stopped', createdAt, exit: event.exit };
  }
}
