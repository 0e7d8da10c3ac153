/**
 * What pods' annotations say of power requests: once `done` or `failed`, a request is over, and nothing more is said of it. Pure.
 */

/** One answer as an annotation has it. */
export interface Answer {
  readonly id: string;
  readonly phase: string;
  readonly message: string;
}

/** The answers that end a request, by the pod's UID and the request's id. */
export type RequestLedger = ReadonlyMap<string, Answer>;

export const NO_REQUESTS: RequestLedger = new Map();

export function parseAnswer(annotation: string | undefined): Answer | undefined {
  return annotation === undefined ? undefined : (JSON.parse(annotation) as Answer);
}

export function isOver({ phase }: Answer): boolean {
  return phase === 'done' || phase === 'failed';
}

/** The pod's annotation is this now, which it may have been before. */
export function noteAnswer(
  ledger: RequestLedger,
  uid: string,
  answer: Answer,
): { readonly ledger: RequestLedger; readonly violations: readonly string[] } {
  const key = `${uid} ${answer.id}`;
  const end = ledger.get(key);
  if (end === undefined)
    return { ledger: isOver(answer) ? new Map([...ledger, [key, answer]]) : ledger, violations: [] };
  if (end.phase === answer.phase && end.message === answer.message) return { ledger, violations: [] };
  const violation = `request "${answer.id}" was ${describe(end)}, and is ${describe(answer)}`;
  return { ledger, violations: [violation] };
}

function describe({ phase, message }: Answer): string {
  return message === '' ? phase : `${phase} (${message})`;
}
