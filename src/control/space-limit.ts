import { VmError } from '../core/errors.ts';
import { formatBytes } from '../core/quantity.ts';
import type { Host } from '../host/host.ts';

/** Left free for everybody else on the file system. */
const RESERVE = 512 * 2 ** 20;
/** How much is written between two looks at the free space. */
const STEP = 64 * 2 ** 20;

/** How large one temporary file may become: a compressed file can unpack to a thousand times its size. */
export class SpaceLimit {
  /** Bytes: what `--max-size` says and what the file system has, when this was made. */
  readonly bytes: number;
  readonly #host: Host;
  readonly #directory: string;
  readonly #maxSize: number;
  #looked = 0;

  /** @param present bytes of the file that are there already. */
  constructor(host: Host, directory: string, maxSize: number, present = 0) {
    this.#host = host;
    this.#directory = directory;
    this.#maxSize = maxSize;
    this.bytes = Math.min(maxSize, present + Math.max(0, host.freeBytes(directory) - RESERVE));
  }

  /** @throws VmError ResourceExhausted when a file that is announced with so many bytes is too large. */
  expect(size: number): void {
    if (size > this.bytes) throw size > this.#maxSize ? this.#tooLarge() : this.full();
  }

  /** @throws VmError ResourceExhausted when a file that has so many bytes by now is too large. */
  check(size: number): void {
    this.expect(size);
    if (Math.abs(size - this.#looked) < STEP) return;
    this.#looked = size;
    // Others write to this file system as well.
    if (this.#host.freeBytes(this.#directory) < RESERVE) throw this.full();
  }

  /** What stands in the way of a file that reached the limit. */
  exceeded(): VmError {
    return this.bytes === this.#maxSize ? this.#tooLarge() : this.full();
  }

  full(): VmError {
    return new VmError(
      'ResourceExhausted',
      `the image needs more space than "${this.#directory}" has (${formatBytes(RESERVE)} are left free); make room or name another directory with --temp-dir`,
    );
  }

  #tooLarge(): VmError {
    return new VmError(
      'ResourceExhausted',
      `the image is larger than --max-size ${formatBytes(this.#maxSize)}; raise it if you expect that`,
    );
  }
}
