import { at, textAt } from '../kube/json.ts';

/** What the annotation tells of the request with that id. `time` in ISO 8601: when this phase began. */
export interface PowerAnswer {
  readonly id: string;
  readonly phase: PowerPhase;
  /** One sentence for people; empty where there is nothing to say. */
  readonly message: string;
  readonly time: string;
}

/** `pending`: the agent knows of the request, the VM does not yet. */
export type PowerPhase = 'pending' | 'running' | 'done' | 'failed';

const PHASES: readonly string[] = ['pending', 'running', 'done', 'failed'];

/** Reads the annotation; undefined for what this program did not write, which is then written over. */
export function parsePowerAnswer(text: string | undefined): PowerAnswer | undefined {
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const [id, phase, time] = ['id', 'phase', 'time'].map((key) => textAt(value, key));
  if (id === undefined || time === undefined || !isPhase(phase)) return undefined;
  return { id, phase, message: textAt(value, 'message') ?? '', time };
}

export function isPhase(value: unknown): value is PowerPhase {
  return typeof value === 'string' && PHASES.includes(value);
}

export function renderPowerAnswer({ id, phase, message, time }: PowerAnswer): string {
  return JSON.stringify({ id, phase, message, time });
}

/** Nothing more will be said of the request. */
export function isFinal({ phase }: Pick<PowerAnswer, 'phase'>): boolean {
  return phase === 'done' || phase === 'failed';
}

/** Whether both say the same, whenever. */
export function sameAnswer(a: PowerAnswer | undefined, b: PowerAnswer): boolean {
  return a?.id === b.id && a.phase === b.phase && a.message === b.message;
}

/** What a VM's shim says of the last request it had; undefined when it had none. */
export function shimAnswer(power: unknown): PowerAnswer | undefined {
  const id = textAt(power, 'id') ?? '';
  const phase = textAt(power, 'phase');
  if (id === '' || !isPhase(phase)) return undefined;
  const ms = at(power, 'atMs');
  return {
    id,
    phase,
    message: textAt(power, 'message') ?? '',
    time: new Date(typeof ms === 'number' ? ms : 0).toISOString(),
  };
}
