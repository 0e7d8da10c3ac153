import { VmError } from '../../src/core/errors.ts';
import { Random } from '../support/chaos/random.ts';
import type { FuzzTarget } from './target.ts';

export interface FuzzLimits {
  readonly seed: number;
  /** Inputs, whichever of the two ends first. */
  readonly inputs: number;
  readonly seconds: number;
  /** The number of the first input. */
  readonly from?: number;
}

export interface FuzzResult {
  readonly inputs: number;
  readonly accepted: number;
  readonly refused: number;
  readonly seconds: number;
  /** The first failures, a text each; at most `MAX_FAILURES`. */
  readonly failures: readonly string[];
}

const MAX_FAILURES = 5;
/** No answer takes longer, in CPU time, so that it does not matter who else has the processor. */
const SLOW_MS = 1_000;
/** Longer is no sentence. */
const MAX_MESSAGE = 8_000;

/**
 * Gives a parser inputs until a limit is reached. The n-th input is the same for the same seed, whatever came before it. A
 * parser may give a value or throw a VmError with a sentence; anything else is a failure, and so is an answer that takes long.
 */
export async function runTarget(
  { name, make }: FuzzTarget,
  { seed, inputs, seconds, from = 0 }: FuzzLimits,
): Promise<FuzzResult> {
  const started = performance.now();
  const failures: string[] = [];
  let accepted = 0;
  let refused = 0;
  let count = 0;
  while (count < inputs && failures.length < MAX_FAILURES && performance.now() - started < seconds * 1000) {
    const index = from + count++;
    const fuzzed = make(new Random(seed ^ Math.imul(index, 0x9e3779b1)));
    const before = performance.now();
    const used = process.cpuUsage();
    let problem: string | undefined;
    try {
      const outcome = fuzzed.run();
      if (outcome instanceof Promise) await outcome;
      accepted++;
    } catch (error) {
      problem = complaint(error);
      refused++;
    }
    if (performance.now() - before > SLOW_MS) {
      const ms = process.cpuUsage(used).user / 1000;
      if (ms > SLOW_MS) problem ??= `it took ${Math.round(ms)} ms`;
    }
    if (problem !== undefined)
      failures.push(`${name}, seed ${seed}, input ${index}: ${problem}\n  ${fuzzed.show()}`);
  }
  return { inputs: count, accepted, refused, seconds: (performance.now() - started) / 1000, failures };
}

/** What is wrong with what a parser threw; undefined for a VmError that a user can read. */
function complaint(error: unknown): string | undefined {
  if (!(error instanceof VmError))
    return error instanceof Error ? (error.stack ?? error.message) : `threw ${typeof error}`;
  const { kind, message } = error;
  if (kind === 'Unknown') return `has no kind: ${error.stack ?? message}`;
  if (message.length < 10 || message.length > MAX_MESSAGE)
    return `says ${message.length} characters: ${message.slice(0, 300)}`;
  // A line of a log, and of an event of Kubernetes, is one line.
  if (/\p{Cc}/u.test(message)) return `says control characters: ${JSON.stringify(message.slice(0, 500))}`;
  return undefined;
}
