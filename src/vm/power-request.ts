import { VmError } from '../core/errors.ts';

const ACTIONS = ['stop', 'start', 'reset', 'reboot', 'pause', 'resume', 'nmi'] as const;

export type PowerAction = (typeof ACTIONS)[number];

/** What somebody wants of a VM while its task stays RUNNING. */
export interface PowerRequest {
  /** Names the request: the same id is never carried out twice. */
  readonly id: string;
  readonly action: PowerAction;
  /** How long the guest may take to power off, in milliseconds; for `stop` and `reboot`. */
  readonly graceMs: number;
  /** `stop` without asking the guest. */
  readonly force: boolean;
}

export interface PowerStatus {
  readonly id: string;
  readonly action: PowerAction;
  readonly phase: 'running' | 'done' | 'failed';
  /** One sentence, or empty. */
  readonly message: string;
  /** When the phase began, in milliseconds since the epoch. */
  readonly at: number;
}

/** Nova's `shutdown_timeout`, and long enough for Windows to stop its services. */
export const DEFAULT_GRACE_MS = 60_000;
/** A timer counts milliseconds in 31 bits. */
const LONGEST_GRACE_S = 86_400;
/** Goes into the record and into an annotation. */
const ID = /^[\x21-\x7e]{1,128}$/;

/** @throws VmError InvalidArgument for what is no request. */
export function parsePowerRequest(
  {
    id,
    action,
    graceSeconds,
    force,
  }: Readonly<Record<'id' | 'action', string>> & {
    readonly graceSeconds: number;
    readonly force: boolean;
  },
  makeId: () => string,
): PowerRequest {
  const known = ACTIONS.find((name) => name === action);
  if (known === undefined) {
    throw new VmError(
      'InvalidArgument',
      `power action ${JSON.stringify(action)} is none; give ${ACTIONS.slice(0, -1).join(', ')} or ${ACTIONS.at(-1) ?? ''}`,
    );
  }
  if (id !== '' && !ID.test(id)) {
    throw new VmError(
      'InvalidArgument',
      `the id of a power request is ${JSON.stringify(id.slice(0, 200))}; give 1 to 128 printable ASCII characters without blanks`,
    );
  }
  if (graceSeconds > LONGEST_GRACE_S) {
    throw new VmError(
      'InvalidArgument',
      `the grace of a power request is ${graceSeconds} s; give at most ${LONGEST_GRACE_S}`,
    );
  }
  if (force && known !== 'stop')
    throw new VmError('InvalidArgument', `"${known}" cannot be forced; only "stop" can`);
  return {
    id: id === '' ? makeId() : id,
    action: known,
    graceMs: graceSeconds === 0 ? DEFAULT_GRACE_MS : graceSeconds * 1000,
    force,
  };
}
