import { ANNOTATION_PREFIX } from '../core/annotations.ts';
import { describeError, VmError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import { formatBytes, MIB } from '../core/quantity.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import { GROWTH, GROWTH_BLOCK } from '../qemu/plan-growth.ts';
import { balloon, type QmpExecutor } from '../qemu/qmp-commands.ts';
import type { VmEvent } from '../qemu/qmp-events.ts';
import { type PluggedRam, requestPlugged } from '../qemu/virtio-mem.ts';

/** What a guest does not do within this time it is said not to do; one that does takes seconds. */
const PATIENCE_MS = 30_000;

type LimitedVm = Pick<
  VmSpec,
  'name' | 'memoryBytes' | 'maxMemoryBytes' | 'memoryFollowsLimit' | 'memoryLimitBytes' | 'hugepageBytes'
>;

/**
 * How much RAM a changed memory limit leaves the guest, in bytes; undefined where it says nothing of it: the limit of a VM
 * on huge pages is for what is beside its RAM.
 * @param most what the VM can have.
 * @throws VmError FailedPrecondition for more than that.
 */
export function askedMemory(
  vm: LimitedVm,
  limit: number | undefined,
  most = vm.maxMemoryBytes,
): number | undefined {
  if (limit === undefined || vm.hugepageBytes !== undefined) return undefined;
  // Containerd hands on a container's whole resources whichever of them is changed.
  if (limit === vm.memoryLimitBytes) return vm.memoryBytes;
  if (!vm.memoryFollowsLimit) return Math.min(limit, vm.memoryBytes);
  if (limit <= most) return limit;
  const sentence = `memory cannot grow to ${formatBytes(limit)}: VM "${vm.name}"`;
  const why =
    limit <= vm.maxMemoryBytes
      ? `${sentence} is spread over memory nodes, and what it has on each is fixed; it takes the limit with its next container`
      : `${sentence} was created for at most ${formatBytes(most)}; recreate it with a larger limit or with ${ANNOTATION_PREFIX}max-memory of ${formatBytes(limit)} or more`;
  throw new VmError('FailedPrecondition', why);
}

/** What a change of a VM's RAM needs of the host. */
export interface MemoryHold {
  /**
   * Has the VM's records and the node's books say that it has so much RAM, in bytes.
   * @throws VmError ResourceExhausted or FailedPrecondition, before anything has changed, where the node has not.
   */
  readonly claim: (bytes: number, signal: AbortSignal) => Promise<void>;
  /** Sets the cgroup's limit for so much RAM. @returns what an operator should know of the pod's limit. */
  readonly limit: (bytes: number) => string | undefined;
}

export interface LiveMemoryParts {
  readonly id: string;
  readonly qmp: QmpExecutor;
  readonly log: Pick<Logger, 'info' | 'warn'>;
  /** RAM that it was started with, and that can be plugged, in bytes. */
  readonly base: number;
  readonly room: number;
  readonly plugged: PluggedRam;
  /** Of that, what cgroup and books count already. */
  readonly held: number;
  readonly hold: MemoryHold;
  readonly changed: () => void;
}

/**
 * The RAM of a running machine: what it was started with, less what the guest's balloon is to give back, and what is plugged
 * beside it. The node has counted whatever the guest may have before it may, until it has given it back. Whether it follows
 * is the guest's affair; nothing here waits for it.
 */
export class LiveMemory implements Disposable {
  readonly #parts: LiveMemoryParts;
  #plugged: PluggedRam;
  #held: number;
  #scarce: string | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #patience: NodeJS.Timeout | undefined;
  readonly #end = new AbortController();

  constructor(parts: LiveMemoryParts) {
    this.#parts = parts;
    this.#plugged = parts.plugged;
    this.#held = parts.held;
  }

  /** What the machine has, in bytes, with what the balloon has of it. */
  get bytes(): number {
    return this.#parts.base + this.#plugged.size;
  }

  /** What it can have. */
  get most(): number {
    return this.#parts.base + this.#parts.room;
  }

  get warnings(): string[] {
    const lag = describeLag(this.#parts.base, this.#plugged);
    return [this.#scarce, lag].filter((sentence) => sentence !== undefined);
  }

  /**
   * Asks the guest to have `bytes` of RAM, `most` at most. What was plugged goes first, then the balloon takes.
   * @throws VmError as MemoryHold.claim
   */
  async change(bytes: number, signal: AbortSignal): Promise<void> {
    await this.#inTurn(() => this.#change(bytes, signal));
  }

  observe(event: VmEvent): void {
    if (event.name !== 'MEMORY_DEVICE_SIZE_CHANGE' || event.device !== GROWTH) return;
    this.#plugged = { ...this.#plugged, size: event.size };
    this.#parts.changed();
    const { requested, size } = this.#plugged;
    if (requested === size) {
      clearTimeout(this.#patience);
      this.#parts.log.info('the guest has the RAM that it was asked to have', {
        id: this.#parts.id,
        bytes: this.bytes,
      });
    }
    if (needed(this.#plugged) === this.#held) return;
    void this.#inTurn(() => this.#letGo(this.#end.signal)).catch((error: unknown) => {
      if (this.#end.signal.aborted) return;
      this.#parts.log.warn('RAM that the guest has given back is still counted as the VM’s', {
        id: this.#parts.id,
        error: describeError(error),
      });
    });
  }

  /** Its machine has ended: nothing is counted anew. */
  [Symbol.dispose](): void {
    clearTimeout(this.#patience);
    this.#end.abort(new VmError('Canceled', 'the VM has ended'));
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => undefined);
    await turn;
  }

  async #change(bytes: number, caller: AbortSignal): Promise<void> {
    const { qmp, base, room, log, id } = this.#parts;
    const signal = AbortSignal.any([caller, this.#end.signal]);
    signal.throwIfAborted();
    const requested = Math.min(room, Math.floor(Math.max(0, bytes - base) / GROWTH_BLOCK) * GROWTH_BLOCK);
    const before = this.#plugged.requested;
    await this.#take(Math.max(requested, this.#plugged.size), signal);
    const plug = async (): Promise<void> => {
      if (room === 0) return;
      // Of a request that fails QEMU may have heard: until the next one the larger of both counts.
      if (requested > before) this.#plugged = { ...this.#plugged, requested };
      await requestPlugged(qmp, requested, { signal });
      this.#plugged = { ...this.#plugged, requested };
    };
    if (requested <= before) await plug();
    await balloon(qmp, Math.min(bytes, base), { signal });
    if (requested > before) await plug();
    await this.#letGo(signal);
    if (requested === before) return;
    this.#parts.changed();
    log.info('the guest is asked to have other RAM', { id, asked: base + requested, has: this.bytes });
    clearTimeout(this.#patience);
    if (requested !== this.#plugged.size)
      this.#patience = setTimeout(() => this.#tellLag(), PATIENCE_MS).unref();
  }

  /** Counts more before the guest may have it. */
  async #take(plugged: number, signal: AbortSignal): Promise<void> {
    if (plugged <= this.#held) return;
    const { hold, base } = this.#parts;
    await hold.claim(base + plugged, signal);
    this.#held = plugged;
    this.#scarce = hold.limit(base + plugged);
  }

  /** Counts less after the guest has given it back. */
  async #letGo(signal: AbortSignal): Promise<void> {
    const plugged = needed(this.#plugged);
    if (plugged >= this.#held) return;
    signal.throwIfAborted();
    const { hold, base } = this.#parts;
    this.#scarce = hold.limit(base + plugged);
    await hold.claim(base + plugged, signal);
    this.#held = plugged;
  }

  #tellLag(): void {
    const lag = describeLag(this.#parts.base, this.#plugged);
    if (lag !== undefined) this.#parts.log.warn(lag, { id: this.#parts.id });
  }
}

function needed({ requested, size }: PluggedRam): number {
  return Math.max(requested, size);
}

function describeLag(base: number, { requested, size }: PluggedRam): string | undefined {
  if (requested === size) return undefined;
  const mib = (bytes: number): string => `${(base + bytes) / MIB} MiB`;
  const asked = `the guest was asked to have ${mib(requested)} of RAM and has ${mib(size)} so far`;
  return requested > size
    ? `${asked}: it needs the driver virtio_mem and has to take new memory online, see docs/memory.md`
    : `${asked}: it gives back only what it can free`;
}
