import type { Random } from '../support/chaos/random.ts';

/** One parser that meets input of somebody who is not trusted. */
export interface FuzzTarget {
  readonly name: string;
  /** What it guards, for people. */
  readonly about: string;
  /** A run of the parser on one input that the random numbers choose. */
  readonly make: (random: Random) => FuzzCase;
}

export interface FuzzCase {
  /** How a failure shows the input. */
  readonly show: () => string;
  /** Gives any value or a promise of one, or throws a VmError; may throw `Unsound` for a value that must not be. */
  readonly run: () => unknown;
}

/** The parser took what it must not take, or gave what it must not give. */
export class Unsound extends Error {
  override readonly name = 'Unsound';
}

export function showBytes(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 2048)).toString('hex');
  return `${bytes.length} bytes: ${hex}`;
}

export function showText(text: string): string {
  return `${text.length} characters: ${JSON.stringify(text.slice(0, 4096))}`;
}
