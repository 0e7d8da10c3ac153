import { Bell } from '../core/bell.ts';
import { describeError, VmError } from '../core/errors.ts';
import { exitStatus, type ExitReason, type TaskExit } from '../core/exit.ts';
import type { CpuResources, VmSpec } from '../core/vm-spec.ts';
import { limitAgain } from './limit-again.ts';
import { askedMemory } from './live-memory.ts';
import type { Machine } from './machine.ts';
import { expectState } from './machine-state.ts';
import { performPower } from './power-actions.ts';
import { PowerBook } from './power-book.ts';
import { bootAfter, judge, type ShortLives } from './power-policy.ts';
import { DEFAULT_GRACE_MS, type PowerStatus } from './power-request.ts';
import { describePower, nextPower, type PowerEvent, type PowerState } from './power-state.ts';
import { signalAction } from './signals.ts';
import { askedVcpus } from './vcpu-growth.ts';
import type { MachineHook, VmParts } from './vm-parts.ts';

const SIGKILL = 9;
const SIGTERM = 15;
/** A QEMU is made within a second; somebody may hold its disk who lets go slowly. */
const BOOT_MS = 120_000;

/**
 * The VM of one task, switched on and off. It has one machine, and so one QEMU, after another; `exited` is the task's
 * end and no machine's. Every change goes through `nextPower` and is recorded before it has an effect; nothing here makes
 * a question wait.
 */
export class Vm {
  readonly spec: VmSpec;
  /** Settles when the task has ended; never rejects. */
  readonly exited: Promise<TaskExit>;
  readonly book: PowerBook;
  /** Rings whenever something of it, of its machine or of its requests has changed. */
  readonly changed: Bell = new Bell();
  readonly #parts: VmParts;
  readonly #end = Promise.withResolvers<TaskExit>();
  readonly #stallListeners: ((stalled: boolean) => void)[] = [];
  #state: PowerState;
  #machine: Machine;
  #requests: readonly PowerStatus[] = [];
  #hook: MachineHook = () => Promise.resolve();
  /** Settles when what the last QEMU left is gone; never rejects. */
  #cleared: Promise<void> = Promise.resolve();
  /** Calls a boot off. */
  #boot = new AbortController();
  #alarm: NodeJS.Timeout | undefined;
  #shortLives: ShortLives = 0;
  readonly #waiting: (() => void)[] = [];
  /** What containerd has asked since the VM was created: the next machine is to have it too. */
  #cpu: Partial<CpuResources> | undefined;
  #memoryBytes: number | undefined;

  constructor(parts: VmParts) {
    this.spec = parts.spec;
    this.#parts = parts;
    this.#state = { t: 'on', since: Date.now(), held: false, ending: undefined };
    this.exited = this.#end.promise;
    this.book = new PowerBook({
      perform: (request) => performPower(this, request),
      record: (requests) => {
        this.#parts.record({ state: this.#state, requests }, false);
        this.#requests = requests;
        this.changed.ring();
      },
      earlier: parts.earlier?.requests ?? [],
    });
    this.#machine = parts.machine;
    this.#watch(parts.machine);
  }

  get power(): PowerState {
    return this.#state;
  }

  /** The one that runs; while the VM is off, the one that ran last. */
  get machine(): Machine {
    return this.#machine;
  }

  /** QEMU's; ours while there is none, for a running task has a live process. */
  get pid(): number {
    return this.#machine.state.t === 'exited' && this.#state.t !== 'ended' ? process.pid : this.#machine.pid;
  }

  /** `hook` runs for every machine but the first one. */
  beforeBoot(hook: MachineHook): void {
    this.#hook = hook;
  }

  /** Calls `listener` when the guest stops because its storage does not work, and when that is over. */
  watchStalls(listener: (stalled: boolean) => void): void {
    this.#stallListeners.push(listener);
    this.#machine.watchStalls(listener);
  }

  /**
   * Lets the guest run for the first time, unless the VM was off when its container ended. One that an earlier shim left
   * running goes on as it was: a stop that was under way is gone through with, a pause stays.
   */
  async start(signal: AbortSignal): Promise<void> {
    const { kept, earlier, log } = this.#parts;
    const why = kept.read();
    if (why !== undefined && earlier === undefined) {
      expectState(this.#machine.state, 'start', 'prelaunch');
      log.info('the VM stays off, as it was before its container was made anew', { id: this.spec.id, why });
      this.#apply({ t: 'stop-asked', then: 'off', why, at: Date.now() });
      this.#machine.kill();
      await this.steady();
      return;
    }
    if (why === undefined && earlier?.state.t === 'on' && earlier.state.held) {
      await this.#machine.startPaused(signal);
      this.#apply({ t: 'held', held: true });
      return;
    }
    await this.#machine.start(signal);
    if (why === undefined) return;
    this.#apply({ t: 'stop-asked', then: 'off', why, at: Date.now() });
    await this.#shutDown(this.#machine, DEFAULT_GRACE_MS);
  }

  /**
   * What a signal to the task means. What would end a process ends the task: no policy boots the guest again.
   * @throws VmError NotFound when the task has ended.
   */
  async signal(number: number, signal: AbortSignal): Promise<void> {
    const action = signalAction(number);
    const before = this.#state;
    if (before.t === 'ended') throw new VmError('NotFound', 'process already finished');
    if (action === 'probe' || action === 'ignore') return;
    const kill = action === 'kill';
    this.#endTask(kill ? { kind: 'killed', signal: SIGKILL } : { kind: 'powered-off' });
    if (before.t === 'on') {
      await this.#machine.signal(number, signal);
      // Containerd knows nothing of an operator's pause, and while it lasts no guest can obey.
      if (before.held && !kill) await this.#machine.resume(signal);
    } else if (before.t === 'stopping' && kill) this.#machine.kill();
  }

  /** Stops the vCPUs for an operator: to containerd the task goes on. */
  async hold(signal: AbortSignal): Promise<void> {
    await this.expectOn('pause').pause(signal);
    this.#apply({ t: 'held', held: true });
  }

  /** Whoever paused it, or whatever. */
  async resume(signal: AbortSignal): Promise<void> {
    await this.expectOn('resume').resume(signal);
    this.#apply({ t: 'held', held: false });
  }

  /** Presses the reset button: the guest boots again in the same QEMU, and one that was paused goes on. */
  async reset(signal: AbortSignal): Promise<void> {
    await this.expectOn('reset').reset(signal);
    this.#apply({ t: 'held', held: false });
  }

  /** The machine of a VM that is on. @throws VmError FailedPrecondition naming the operation. */
  expectOn(operation: string): Machine {
    if (this.#state.t === 'on') return this.#machine;
    throw new VmError('FailedPrecondition', `cannot ${operation}: the VM is ${describePower(this.#state)}`);
  }

  /**
   * Has the guest power off, and ends QEMU when `graceMs` are over; `kill` does not ask it. Resolves when QEMU has ended and
   * what it held is free and, for `boot`, the next one runs.
   * @throws VmError FailedPrecondition for a VM whose task was not started or has ended, or that did not boot again.
   */
  async switchOff(
    then: 'off' | 'boot',
    how: { readonly graceMs: number } | 'kill',
    why: string,
  ): Promise<void> {
    if (this.#state.t === 'starting') await this.steady();
    const operation = then === 'off' ? 'stop' : 'reboot';
    const state = this.#state;
    if (state.t === 'ended') throw ended(operation);
    if (state.t === 'on')
      expectState(this.#machine.state, operation, 'running', 'paused', 'ending', 'exited');
    if (state.t === 'off' && then === 'boot') this.expectOn(operation);
    if (then === 'off') this.#parts.kept.write(why);
    this.#apply({ t: 'stop-asked', then, why, at: Date.now() });
    if (state.t !== 'off') {
      if (how === 'kill') this.#machine.kill();
      else await this.#shutDown(this.#machine, how.graceMs);
    }
    await this.steady();
    if (then === 'boot') this.#expectBooted();
  }

  /** @throws VmError FailedPrecondition with the reason when it does not boot. */
  async switchOn(): Promise<void> {
    if (this.#state.t === 'off') {
      this.#parts.kept.write(undefined);
      this.#shortLives = 0;
      this.#bootNow('operator');
    }
    await this.steady();
    this.#expectBooted();
  }

  #expectBooted(): void {
    if (this.#state.t === 'on') return;
    if (this.#state.t === 'ended') throw ended('start');
    throw new VmError('FailedPrecondition', `the VM did not boot: it is ${describePower(this.#state)}`);
  }

  /** Resolves when nothing is under way: the VM is on or off, and if off, what its QEMU held is free; or has ended. */
  async steady(): Promise<void> {
    while (this.#state.t === 'stopping' || this.#state.t === 'starting') {
      const { promise, resolve } = Promise.withResolvers<undefined>();
      this.#waiting.push(() => resolve(undefined));
      await promise;
    }
    await this.#cleared;
  }

  /**
   * Changes CPU limits, vCPUs and what RAM the guest has; while the VM is off, for when it is on again.
   * @throws as Machine.update
   */
  async update(cpu: CpuResources, memoryBytes: number | undefined, signal: AbortSignal): Promise<void> {
    const { t } = this.#state;
    if (t === 'on' || t === 'ended') await this.#machine.update(cpu, memoryBytes, signal);
    else {
      askedMemory(this.spec, memoryBytes);
      askedVcpus(this.spec, cpu);
    }
    const said = Object.entries(cpu).filter(([, value]) => value !== undefined);
    this.#cpu = { ...this.#cpu, ...Object.fromEntries(said) };
    this.#memoryBytes = memoryBytes ?? this.#memoryBytes;
  }

  /** SIGKILL for QEMU, and the end of the task, whatever the VM's power. */
  kill(): void {
    this.#endTask({ kind: 'killed', signal: SIGKILL });
    if (this.#state.t === 'on' || this.#state.t === 'stopping') this.#machine.kill();
  }

  /** Ends the task if it goes on, waits for its end and gives everything back. */
  async release(): Promise<void> {
    this.kill();
    await this.exited;
    await this.#cleared;
    await this.#parts.release();
  }

  #apply(event: PowerEvent): void {
    const state = nextPower(this.#state, event);
    if (state === this.#state) return;
    const noQemu = event.t === 'machine-ended' && state.t !== 'ended';
    try {
      this.#parts.record({ state, requests: this.#requests }, noQemu);
    } catch (error) {
      // What happened has happened, and whoever cleans up finds QEMU by its mark.
      this.#parts.log.warn('the VM’s power could not be recorded', {
        id: this.spec.id,
        error: describeError(error),
      });
    }
    this.#state = state;
    clearTimeout(this.#alarm);
    if (state.t === 'off' && state.bootAt !== undefined)
      this.#alarm = setTimeout(() => this.#bootNow('policy'), Math.max(0, state.bootAt - Date.now()));
    this.changed.ring();
    for (const wake of this.#waiting.splice(0)) wake();
  }

  #endTask(reason: ExitReason): void {
    if (this.#state.t === 'ended') return;
    this.#apply({ t: 'end-asked', exit: { status: exitStatus(reason), at: Date.now(), reason } });
    this.#boot.abort(new VmError('Aborted', 'the task is to end'));
    this.#settleEnd();
  }

  /** The task has ended if its state says so. */
  #settleEnd(): void {
    if (this.#state.t !== 'ended') return;
    this.#end.resolve(this.#state.exit);
  }

  #watch(machine: Machine): void {
    machine.changed.listen(() => this.changed.ring());
    void machine.exited.then((exit) => this.#machineEnded(exit));
  }

  #machineEnded(exit: TaskExit): void {
    const { log, kept } = this.#parts;
    const at = Date.now();
    const since = this.#state.t === 'on' ? this.#state.since : at;
    const { verdict, shortLives } = judge(exit.reason, this.spec.power, {
      shortLives: this.#shortLives,
      bootedAt: since,
      at,
    });
    const unasked = this.#state.t === 'on';
    this.#shortLives = unasked ? shortLives : 0;
    this.#apply({ t: 'machine-ended', exit, verdict, at });
    this.#settleEnd();
    if (this.#state.t === 'ended') return;
    this.#cleared = this.#clear();
    log.info(`the VM is ${describePower(this.#state)}`, { id: this.spec.id });
    if (this.#state.t === 'starting') void this.#make('policy');
    else if (unasked && this.#state.t === 'off' && this.#state.bootAt === undefined) {
      try {
        kept.write(this.#state.why);
      } catch (error) {
        log.warn('that the VM is off could not be kept; it boots when its container is made anew', {
          id: this.spec.id,
          error: describeError(error),
        });
      }
    }
  }

  async #clear(): Promise<void> {
    try {
      await this.#parts.unplug();
    } catch (error) {
      this.#parts.log.warn('something of a QEMU that has ended is left; the VM’s end removes it', {
        id: this.spec.id,
        error: describeError(error),
      });
    }
  }

  #bootNow(by: 'operator' | 'policy'): void {
    if (this.#state.t !== 'off') return;
    this.#apply({ t: 'boot-asked', at: Date.now() });
    void this.#make(by);
  }

  /** Never rejects. */
  async #make(by: 'operator' | 'policy'): Promise<void> {
    this.#boot = new AbortController();
    const signal = AbortSignal.any([this.#boot.signal, AbortSignal.timeout(BOOT_MS)]);
    try {
      await this.#cleared;
      signal.throwIfAborted();
      const machine = await this.#parts.boot(signal);
      await this.#bringUp(machine, signal);
      this.#machine = machine;
      this.#apply({ t: 'booted', at: Date.now() });
      // Asked for in the last moment.
      if (this.#boot.signal.aborted) machine.kill();
      this.#watch(machine);
    } catch (error) {
      const at = Date.now();
      const why = VmError.from(error).message;
      const next =
        by === 'policy'
          ? bootAfter(why, (this.#shortLives = Math.max(2, this.#shortLives + 1)), at)
          : undefined;
      this.#parts.log.warn('the VM did not boot', { id: this.spec.id, error: describeError(error) });
      this.#cleared = this.#clear();
      this.#apply({ t: 'boot-failed', why: next?.why ?? why, bootAt: next?.at, at });
      this.#settleEnd();
    }
  }

  async #bringUp(machine: Machine, signal: AbortSignal): Promise<void> {
    try {
      await this.#hook(machine, signal);
      if (this.#cpu !== undefined || this.#memoryBytes !== undefined)
        await limitAgain(
          machine,
          { ...this.spec.resources, ...this.#cpu },
          this.#memoryBytes,
          this.#parts.log,
          signal,
        );
      for (const listener of this.#stallListeners) machine.watchStalls(listener);
      await machine.start(signal);
    } catch (error) {
      machine.kill();
      await machine.exited;
      throw error;
    }
  }

  async #shutDown(machine: Machine, graceMs: number): Promise<void> {
    const late = setTimeout(() => machine.kill(), graceMs);
    void machine.exited.then(() => clearTimeout(late));
    const { signal } = new AbortController();
    try {
      await machine.signal(SIGTERM, signal);
      // A guest that stands still cannot obey.
      if (machine.state.t === 'paused') await machine.resume(signal);
    } catch (error) {
      // It has ended, or its time is over.
      if (!VmError.is(error, 'NotFound') && !VmError.is(error, 'Unavailable')) throw error;
    }
  }
}

function ended(operation: string): VmError {
  return new VmError('FailedPrecondition', `cannot ${operation}: the VM’s task has ended`);
}
