import { suggestName } from '../../core/nearest-name.ts';

/** What a pod's annotation asks of its VM. */
export interface PowerRequest {
  /** The asker's name for this request; the same one is never done twice. */
  readonly id: string;
  readonly action: PowerAction;
  /** How long `stop` and `reboot` wait for the guest; undefined for the shim's default. */
  readonly graceSeconds: number | undefined;
  /** `stop` at once, without asking the guest. */
  readonly force: boolean;
}

export const POWER_ACTIONS = ['stop', 'start', 'reset', 'reboot', 'pause', 'resume', 'nmi'] as const;
export type PowerAction = (typeof POWER_ACTIONS)[number];

/** `id` is the request's if it has a usable one, so that the answer is found. */
export type ParsedRequest =
  | { readonly t: 'request'; readonly request: PowerRequest }
  | { readonly t: 'problem'; readonly id: string; readonly sentence: string };

/** What the shim takes. */
const ID = /^[\x21-\x7e]{1,128}$/;
const MAX_GRACE = 86_400;
const KEYS = ['id', 'action', 'graceSeconds', 'force'];

/** Reads the annotation; total: whatever is wrong with it is a sentence for whoever wrote it. */
export function parsePowerRequest(text: string): ParsedRequest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return problem('', `the request is no JSON; write {"id": "1", "action": "stop"}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return problem(
      '',
      `the request is ${show(value)}; write an object such as {"id": "1", "action": "stop"}`,
    );
  const { id, action, graceSeconds, force = false } = value as Record<string, unknown>;
  if (typeof id !== 'string' || !ID.test(id))
    return problem(
      '',
      `"id" is ${show(id)}; give a string of 1 to 128 printable ASCII characters without blanks, another one each time`,
    );
  const unknown = Object.keys(value).find((key) => !KEYS.includes(key));
  if (unknown !== undefined) return problem(id, `unknown key ${show(unknown)}; there are ${KEYS.join(', ')}`);
  if (!isAction(action))
    return problem(
      id,
      `"action" is ${show(action)}; ${suggestName(typeof action === 'string' ? action : '', POWER_ACTIONS)}`,
    );
  if (graceSeconds !== undefined && !isGrace(graceSeconds))
    return problem(id, `"graceSeconds" is ${show(graceSeconds)}; give a whole number from 1 to ${MAX_GRACE}`);
  if (typeof force !== 'boolean' || (force && action !== 'stop'))
    return problem(id, `"force" is ${show(force)}; it is true or false, and only "stop" can be forced`);
  return { t: 'request', request: { id, action, graceSeconds, force } };
}

export function isAction(value: unknown): value is PowerAction {
  return (POWER_ACTIONS as readonly unknown[]).includes(value);
}

export function isGrace(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_GRACE;
}

function problem(id: string, sentence: string): ParsedRequest {
  return { t: 'problem', id, sentence };
}

/** Short: it ends up in an annotation. */
function show(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
