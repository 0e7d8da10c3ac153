/** The closed set of ways an operation fails; `src/ttrpc/status.ts` is the one place that maps it to the wire. */
export type ErrorKind =
  | 'Canceled'
  | 'Unknown'
  | 'InvalidArgument'
  | 'DeadlineExceeded'
  | 'NotFound'
  | 'AlreadyExists'
  | 'PermissionDenied'
  | 'ResourceExhausted'
  | 'FailedPrecondition'
  | 'Aborted'
  | 'Unimplemented'
  | 'Internal'
  | 'Unavailable';

/** Control characters (terminals obey them, C1 included), and what reorders or hides text. Not the tab and the line feed. */
const UNSEEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/**
 * The only error class of this project. The message is one sentence that a user can act on: it names the field, the
 * value and the remedy. What caused it stays in `cause`. Values come from pods, images and guests, and messages go to logs
 * and terminals, so whatever is not to be seen in them is escaped.
 */
export class VmError extends Error {
  readonly kind: ErrorKind;

  constructor(kind: ErrorKind, message: string, options?: { cause?: unknown }) {
    super(message.replace(UNSEEN, escapeCharacter), options);
    this.name = 'VmError';
    this.kind = kind;
  }

  static is(error: unknown, kind?: ErrorKind): error is VmError {
    // By name, not by class: the programs are several bundles, and each has its own copy of this class.
    if (!(error instanceof Error) || error.name !== 'VmError' || !('kind' in error)) return false;
    return kind === undefined || error.kind === kind;
  }

  /** Total: whatever was thrown becomes a VmError. An AbortSignal's reason keeps its meaning. */
  static from(error: unknown, context?: string): VmError {
    const say = (text: string): string => (context === undefined ? text : `${context}: ${text}`);
    if (VmError.is(error)) {
      return context === undefined ? error : new VmError(error.kind, say(error.message), { cause: error });
    }
    if (error instanceof Error) {
      if (error.name === 'TimeoutError') {
        return new VmError('DeadlineExceeded', say('the caller’s deadline has passed'), { cause: error });
      }
      if (error.name === 'AbortError')
        return new VmError('Canceled', say('the call was canceled'), { cause: error });
      return new VmError('Unknown', say(error.message), { cause: error });
    }
    return new VmError('Unknown', say(String(error)), { cause: error });
  }
}

function escapeCharacter(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** What an error says together with everything that caused it, for logs. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  let current = error;
  while (current instanceof Error) {
    const text = current.message;
    if (parts.at(-1)?.includes(text) !== true) parts.push(text);
    current = current.cause;
  }
  if (parts.length === 0) parts.push(String(error));
  return parts.join(': ');
}
