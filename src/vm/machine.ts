import { Bell } from '../core/bell.ts';
import { describeError, VmError } from '../core/errors.ts';
import { describeExit, exitStatus, type ExitReason, type TaskExit } from '../core/exit.ts';
import type { CpuResources, VmSpec } from '../core/vm-spec.ts';
import type { NicCounters } from '../net/nic-counters.ts';
import { type ExitEvidence, exitReason, noExitEvidence, noteExitEvent } from '../qemu/exit-cause.ts';
import {
  cont,
  injectNmi,
  queryStatus,
  quit,
  stop,
  systemPowerdown,
  systemReset,
} from '../qemu/qmp-commands.ts';
import { parseVmEvent, type VmEvent } from '../qemu/qmp-events.ts';
import { IoRecovery } from './io-recovery.ts';
import type { GuestFigures } from './guest-figures.ts';
import { describeTrouble } from './io-trouble.ts';
import { ioWarnings } from './io-warnings.ts';
import { askedMemory, LiveMemory } from './live-memory.ts';
import type { MachineFacts, MachineParts } from './machine-parts.ts';
import { expectState, isStalled, type MachineEvent, type MachineState, next } from './machine-state.ts';
import type { VmNames } from './names.ts';
import type { NicStatus } from './nic-status.ts';
import { signalAction } from './signals.ts';
import type { Timeline } from './timeline.ts';
import { askedVcpus, VcpuGrowth } from './vcpu-growth.ts';
import { expectScreen } from './vm-screen.ts';

const SIGKILL = 9;
/** How long QEMU may take to say that a button is pressed, which it does at once unless it hangs. */
const BUTTON_MS = 1_000;
/** How long QEMU may take to leave by itself once its guest is down. */
const QUIT_MS = 5_000;

/**
 * One VM: a QEMU process and what is known about it. Every change of state goes through `next`, and nothing here waits
 * for the guest, so questions are answered at once even while it hangs.
 */
export class Machine {
  readonly spec: VmSpec;
  readonly names: VmNames;
  readonly facts: MachineFacts;
  readonly timeline: Timeline;
  /** Settles when the kernel has told of QEMU's end; never rejects. */
  readonly exited: Promise<TaskExit>;
  /** Rings whenever the state has changed. */
  readonly changed: Bell = new Bell();
  readonly #parts: MachineParts;
  #state: MachineState;
  #evidence: ExitEvidence = noExitEvidence;
  #requestedSignal: number | undefined;
  readonly #io: IoRecovery;
  readonly #vcpus: VcpuGrowth;
  readonly #memory: LiveMemory;
  readonly #stallListeners: ((stalled: boolean) => void)[] = [];

  constructor(parts: MachineParts) {
    this.spec = parts.spec;
    this.names = parts.names;
    this.facts = parts.facts;
    this.timeline = parts.timeline;
    this.#parts = parts;
    this.#state = next({ t: 'creating' }, { t: 'spawned', pid: parts.qemu.pid });
    this.#io = this.#makeRecovery();
    this.#vcpus = new VcpuGrowth(parts.qemu.qmp, parts.vcpus);
    const { qemu, log, ram, spec } = parts;
    const changed = (): void => this.changed.ring();
    this.#memory = new LiveMemory({ ...ram, id: spec.id, qmp: qemu.qmp, log, changed });
    this.#watchQmp();
    this.exited = this.#watchExit();
  }

  get state(): MachineState {
    return this.#state;
  }

  /** Path of everything the guest printed on its console. */
  get consoleLog(): string {
    return this.#parts.consoleLog;
  }

  /** Undefined for a VM without a graphics card. */
  get vncSocket(): string | undefined {
    return this.#parts.screen?.vncSocket;
  }

  /** What is on the guest's screen, as PNG. @throws VmError FailedPrecondition for a VM without one. */
  async screenshot(signal: AbortSignal): Promise<Buffer> {
    const screen = expectScreen(this.#parts.screen, this.spec.name);
    expectState(this.#state, 'take a screenshot', 'prelaunch', 'running', 'paused');
    return await screen.screenshot(signal);
  }

  get pid(): number {
    return this.#parts.qemu.pid;
  }

  /** What has passed the cards of the pod's network since the VM was created; empty once it has ended. */
  nicCounters(): NicCounters[] {
    return this.#state.t === 'exited' ? [] : this.#parts.nicCounters();
  }

  /** What the guest has used so far. Asks QEMU. @throws VmError FailedPrecondition where none runs. */
  async guestFigures(signal: AbortSignal): Promise<GuestFigures> {
    expectState(this.#state, 'read figures', 'prelaunch', 'running', 'paused', 'ending');
    return await this.#parts.guestFigures(signal);
  }

  /** Lets the guest run for the first time. */
  async start(signal: AbortSignal): Promise<void> {
    expectState(this.#state, 'start', 'prelaunch');
    this.timeline.mark('continued');
    await cont(this.#parts.qemu.qmp, { signal });
    // QEMU has told so before its answer, and may have told of a stop since; only a client that is no QEMU has not.
    if (this.#state.t === 'prelaunch') this.#apply({ t: 'continued', at: Date.now() });
  }

  /** Goes on with a guest that somebody has paused before us: it stays so. */
  async startPaused(signal: AbortSignal): Promise<void> {
    expectState(this.#state, 'start', 'prelaunch');
    // Whoever was to pause it may have died before it could.
    await stop(this.#parts.qemu.qmp, { signal });
    this.#apply({ t: 'continued', at: Date.now() });
    this.#apply({ t: 'stopped' });
    this.#apply({ t: 'pause-asked' });
    this.#io.hold();
  }

  /** A guest that its storage has stopped can be paused as well: then it does not go on by itself. */
  async pause(signal: AbortSignal): Promise<void> {
    const state = this.#state;
    if (state.t !== 'paused' || state.asked) expectState(state, 'pause', 'running');
    await stop(this.#parts.qemu.qmp, { signal });
    this.#apply({ t: 'pause-asked' });
    this.#io.hold();
  }

  /** Whoever paused it, or whatever. Resolves before it is known whether a disk that failed works again. */
  async resume(signal: AbortSignal): Promise<void> {
    expectState(this.#state, 'resume', 'paused');
    await cont(this.#parts.qemu.qmp, { signal });
  }

  /** Presses the reset button: the guest boots again in the same QEMU. One that stood still goes on. */
  async reset(signal: AbortSignal): Promise<void> {
    expectState(this.#state, 'reset', 'running', 'paused');
    await systemReset(this.#parts.qemu.qmp, { signal });
    await cont(this.#parts.qemu.qmp, { signal });
  }

  /** Sends the guest a non-maskable interrupt. */
  async nmi(signal: AbortSignal): Promise<void> {
    expectState(this.#state, 'send an NMI', 'running');
    await injectNmi(this.#parts.qemu.qmp, { signal });
  }

  /** Calls `listener` when the guest stops because its storage does not work, and when that is over. */
  watchStalls(listener: (stalled: boolean) => void): void {
    this.#stallListeners.push(listener);
  }

  /** What the operator should know, the lasting first. */
  get warnings(): string[] {
    const lasting = [...this.facts.warnings, ...this.#parts.lostDirectories()];
    return [...lasting, ...this.#memory.warnings, ...ioWarnings(this.#state, this.#io)];
  }

  /**
   * Does what a signal means to a machine. Returns when the button is pressed or the kill is sent, not when the guest
   * has followed.
   * @throws VmError NotFound when QEMU has ended already, which containerd's clients expect and ignore.
   */
  async signal(number: number, signal: AbortSignal): Promise<void> {
    const action = signalAction(number);
    const { t } = this.#state;
    if (t === 'exited') throw new VmError('NotFound', 'process already finished');
    if (action === 'probe' || action === 'ignore') return;
    this.#requestedSignal = number;
    if (action === 'kill') this.#parts.qemu.kill();
    // A guest that has not run an instruction yet would never see the button.
    else if (t === 'prelaunch' || t === 'creating') void this.#quit();
    else if (t !== 'ending') {
      await this.#pressPowerButton(signal);
      // A guest that stands still sees the button when it goes on; perhaps its disk lets it by now.
      if (isStalled(this.#state)) this.#io.retryNow();
    }
  }

  /** A QEMU that hangs finds the press when it goes on; whoever asked has to be able to ask for more until then. */
  async #pressPowerButton(signal: AbortSignal): Promise<void> {
    const late = AbortSignal.timeout(BUTTON_MS);
    try {
      await systemPowerdown(this.#parts.qemu.qmp, { signal: AbortSignal.any([signal, late]) });
    } catch (error) {
      if (late.aborted && !signal.aborted) {
        this.#parts.log.warn('QEMU did not answer the power button', { id: this.spec.id });
        return;
      }
      // QEMU has ended in this moment, which is what was asked for.
      if (!VmError.is(error, 'Unavailable')) throw error;
      throw new VmError('NotFound', 'process already finished', { cause: error });
    }
  }

  /** vCPUs that the guest has or can take into use. */
  get vcpus(): number {
    return this.#vcpus.count;
  }

  /** Its RAM in bytes, and the most that it can have. */
  get memory(): Pick<LiveMemory, 'bytes' | 'most'> {
    return this.#memory;
  }

  /**
   * Changes what CPU time and CPUs the VM's cgroup gives it, plugs vCPUs and RAM where the limits now ask for more, and asks
   * the guest to give RAM back where they ask for less.
   * @param memoryLimit in bytes
   * @throws VmError, before anything has changed, FailedPrecondition for more than the VM was created for and
   * ResourceExhausted for more RAM than its node has.
   */
  async update(cpu: CpuResources, memoryLimit: number | undefined, signal: AbortSignal): Promise<void> {
    expectState(this.#state, 'update', 'prelaunch', 'running', 'paused', 'ending');
    const vcpus = askedVcpus(this.spec, cpu);
    await this.limitMemory(memoryLimit, signal);
    if (vcpus !== undefined) await this.#vcpus.growTo(vcpus, signal);
    this.#parts.limitCpu(cpu);
  }

  /** The part of `update` that is about RAM. */
  async limitMemory(limit: number | undefined, signal: AbortSignal): Promise<void> {
    const bytes = askedMemory(this.spec, limit, this.#memory.most);
    if (bytes === undefined) return;
    expectState(this.#state, 'update', 'prelaunch', 'running', 'paused');
    await this.#memory.change(bytes, signal);
  }

  /** How the cards of the pod's network are doing. */
  nicStatus(signal: AbortSignal): Promise<NicStatus[]> {
    return this.#parts.nicStatus(signal);
  }

  /** SIGKILL for QEMU as if a caller had asked; nothing happens when it has ended. */
  kill(): void {
    if (this.#state.t === 'exited') return;
    this.#requestedSignal = SIGKILL;
    this.#parts.qemu.kill();
  }

  /** Ends QEMU if it lives, waits for its end and gives everything back. */
  async release(): Promise<void> {
    this.kill();
    await this.exited;
    await this.#parts.release();
  }

  #apply(event: MachineEvent): void {
    const before = this.#state;
    this.#state = next(before, event);
    if (this.#state !== before) this.changed.ring();
  }

  #watchQmp(): void {
    this.#parts.qemu.qmp.onEvent((raw) => {
      const event = parseVmEvent(raw);
      if (event !== undefined) this.#observe(event);
    });
  }

  #observe(event: VmEvent): void {
    this.#evidence = noteExitEvent(this.#evidence, event);
    this.#memory.observe(event);
    if (this.#evidence.guest !== 'running') void this.#quit();
    else if (event.name === 'STOP') {
      this.#apply({ t: 'stopped' });
      void this.#explainStop();
    } else if (event.name === 'RESUME') {
      this.#apply({ t: 'continued', at: Date.now() });
      this.#io.resumed();
    } else if (event.name === 'BLOCK_IO_ERROR') {
      this.#io.note(event);
      this.#showTrouble();
    }
  }

  /**
   * STOP has no cause, and the event that has one may come after it or, from QEMU 10.0 on, too late to tell (BLOCK_IO_ERROR
   * is held back there when they are many). QEMU's run state is what counts.
   */
  async #explainStop(): Promise<void> {
    // QEMU that ends meanwhile has told of that.
    const status = await queryStatus(this.#parts.qemu.qmp).catch(() => undefined);
    if (status?.status !== 'io-error' || this.#state.t !== 'paused') return;
    if (!this.#state.asked) this.#io.stalled();
    this.#showTrouble();
  }

  #showTrouble(): void {
    const { trouble } = this.#io;
    if (trouble !== undefined) this.#apply({ t: 'io-failed', trouble });
  }

  #makeRecovery(): IoRecovery {
    const { log, qemu } = this.#parts;
    const { id } = this.spec;
    const tell = (stalled: boolean): void => this.#stallListeners.forEach((listener) => listener(stalled));
    return new IoRecovery({
      resume: () => cont(qemu.qmp),
      began: (trouble) => {
        log.warn(`the VM stands still, ${describeTrouble(trouble)}; it goes on when the disk works`, { id });
        tell(true);
      },
      ended: (trouble) => {
        log.info('the VM goes on, its disk works again', { id, errors: trouble.errors });
        tell(false);
      },
      warn: (sentence) => log.warn(sentence, { id }),
    });
  }

  /** The guest is down: QEMU has nothing left to do. Its `-no-shutdown` keeps it until we say so. */
  async #quit(): Promise<void> {
    if (this.#state.t === 'ending' || this.#state.t === 'exited') return;
    this.#apply({ t: 'end-begun' });
    const late = setTimeout(() => this.#parts.qemu.kill(), QUIT_MS);
    try {
      await quit(this.#parts.qemu.qmp);
    } catch (error) {
      // QEMU may close the connection before its reply is read.
      this.#parts.log.debug('quit was not answered', { error: describeError(error) });
    }
    await this.exited;
    clearTimeout(late);
  }

  async #watchExit(): Promise<TaskExit> {
    const { qemu } = this.#parts;
    const exit = await qemu.exited;
    this.#io[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
    this.#parts.services[Symbol.dispose]();
    const reason: ExitReason = exitReason({
      exit,
      evidence: this.#evidence,
      requestedSignal: this.#requestedSignal,
      oomKilled: this.#parts.oomKilled(),
      logTail: qemu.log.tail(),
    });
    return this.#ended({ status: exitStatus(reason), at: Date.now(), reason });
  }

  #ended(exit: TaskExit): TaskExit {
    this.timeline.mark('exited');
    this.#apply({ t: 'process-exited', exit });
    this.#parts.log.info(`VM ended: ${describeExit(exit.reason)}`, { id: this.spec.id, status: exit.status });
    try {
      this.#parts.recordExit(exit);
    } catch (error) {
      this.#parts.log.warn('the exit could not be recorded', { error: describeError(error) });
    }
    return exit;
  }
}
