import { createHash } from 'node:crypto';
import { VmError } from '../core/errors.ts';
import { parseBaseName, renderBaseName } from './base-identity.ts';
import type { KeptBase } from './kept-base.ts';

/**
 * What we write before a root disk on a block volume. The guest's disk begins behind it, so the guest can neither see nor
 * lose it; it lies at the front because a volume may grow at its end.
 */
export interface RootMark extends KeptBase {
  readonly state: 'filling' | 'filled';
  /** Bytes of the image's disk. */
  readonly virtualSize: number;
  /** Bytes of it that are on the volume for sure. */
  readonly done: number;
}

/** Where the guest's disk begins: as partitions do, so that nothing is misaligned on any device. */
export const MARK_AREA = 2 ** 20;
/** Two copies are written in turn: at any moment at least one of them is whole. */
const SLOT = 4096;
export const MARK_BYTES = 2 * SLOT;
const MAGIC = Buffer.from('vmshim root disk\n');
const DIGEST = 32;

export type FoundMark =
  /** No mark, and nothing that was ever one. */
  | { readonly kind: 'none' }
  /** The first mark a volume ever got, cut off while it was written: nothing was filled yet. */
  | { readonly kind: 'begun' }
  | { readonly kind: 'mark'; readonly mark: RootMark; readonly sequence: number };

/** One slot: magic, JSON, zeros, SHA-256 of all before it. @returns the bytes and where they go. */
export function renderMark(
  mark: RootMark,
  sequence: number,
): { readonly bytes: Buffer; readonly at: number } {
  const { state, virtualSize, done, format } = mark;
  const text = JSON.stringify({
    version: 1,
    sequence,
    state,
    virtualSize,
    done,
    format,
    base: renderBaseName(mark.identity),
  });
  const bytes = Buffer.alloc(SLOT);
  MAGIC.copy(bytes);
  bytes.write(text, MAGIC.length);
  createHash('sha256')
    .update(bytes.subarray(0, SLOT - DIGEST))
    .digest()
    .copy(bytes, SLOT - DIGEST);
  return { bytes, at: (sequence % 2) * SLOT };
}

/**
 * @param bytes the first `MARK_BYTES` of a volume.
 * @throws VmError FailedPrecondition when there was a mark and none is whole, or it is of a later version: what was
 * filled may not be filled again.
 */
export function parseMarks(bytes: Buffer, name: string): FoundMark {
  const slots = [bytes.subarray(0, SLOT), bytes.subarray(SLOT, MARK_BYTES)];
  const begun = slots.filter((slot) => slot.subarray(0, MAGIC.length).equals(MAGIC));
  const found = begun
    .flatMap((slot) => parseSlot(slot, name) ?? [])
    .sort((a, b) => b.sequence - a.sequence)
    .at(0);
  if (found !== undefined) return { kind: 'mark', ...found };
  if (begun.length === 0) return { kind: 'none' };
  // The second mark is written only after the first was safe, so with one slot still blank there was no second.
  if (slots.some(isZero)) return { kind: 'begun' };
  throw new VmError(
    'FailedPrecondition',
    `the mark at the front of ${name} is damaged, so it is not known whether a guest’s data is behind it; restore the volume, or wipe its first MiB to have it filled anew`,
  );
}

function parseSlot(
  slot: Buffer,
  name: string,
): { readonly mark: RootMark; readonly sequence: number } | undefined {
  const digest = createHash('sha256')
    .update(slot.subarray(0, SLOT - DIGEST))
    .digest();
  if (!digest.equals(slot.subarray(SLOT - DIGEST))) return undefined;
  const end = slot.indexOf(0, MAGIC.length);
  const { version, sequence, state, virtualSize, done, format, base } = parseObject(
    slot.toString('utf8', MAGIC.length, end),
  );
  const identity = typeof base === 'string' ? parseBaseName(base) : undefined;
  if (
    version !== 1 ||
    identity === undefined ||
    !isCount(sequence) ||
    !isCount(virtualSize) ||
    !isCount(done) ||
    done > virtualSize ||
    (state !== 'filling' && state !== 'filled') ||
    (format !== 'qcow2' && format !== 'raw')
  ) {
    throw new VmError(
      'FailedPrecondition',
      `${name} was filled by a later version of containerd-shim-vm; use that one or a newer one`,
    );
  }
  return { sequence, mark: { state, virtualSize, done, format, identity } };
}

/** A guest that has the whole volume for itself can write there what it likes, a right checksum as well. */
function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

export function isZero(bytes: Buffer): boolean {
  return bytes.equals(Buffer.alloc(bytes.length));
}
