import { describeError, VmError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import { BackOff, type BackOffTimes } from '../kube/back-off.ts';
import { httpStatus } from '../kube/kube-api.ts';
import type { Condition, PodView } from '../kube/pod-view.ts';
import type { VmView } from '../vms/vm-view.ts';
import { type Asked, planPod } from './plan-pod.ts';
import type { PowerRequest } from './power-request.ts';
import { type PowerAnswer, renderPowerAnswer } from './power-status.ts';

/** What a worker does; the agent's parts behind one seam. */
export interface PodEffects {
  /** The pod as the API server has it at this moment. @throws VmError NotFound. */
  read(pod: PodView, signal: AbortSignal): Promise<PodView>;
  /** @throws VmError Aborted when the pod has changed. */
  annotate(pod: PodView, status: string, signal: AbortSignal): Promise<PodView>;
  /** @throws VmError Aborted when the pod has changed. */
  condition(pod: PodView, condition: Condition, signal: AbortSignal): Promise<PodView>;
  /** The pod's VM as it is now. */
  vm(pod: PodView): VmView | undefined;
  /**
   * Asks the pod's VM, and resolves when that is done or has failed.
   * @throws VmError FailedPrecondition when the VM is busy with another request, Unavailable when its shim does not answer.
   */
  power(pod: PodView, request: PowerRequest, signal: AbortSignal): Promise<PowerAnswer>;
}

/**
 * Brings one pod to what it should say, one step after the other, whenever something has changed. A step that fails is
 * tried again, later each time.
 */
export class PodWorker {
  readonly #effects: PodEffects;
  readonly #log: Logger;
  readonly #signal: AbortSignal;
  readonly #backOff: BackOff;
  #pod: PodView;
  #asked: Asked | undefined;
  /** Id of the request of which we know that the pod asks it still: what a list or a watch tells may be old. */
  #asks: string | undefined;
  #dirty = false;
  #working: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #gone = false;
  readonly #calls = new Set<Promise<void>>();

  constructor(
    pod: PodView,
    parts: { effects: PodEffects; log: Logger; signal: AbortSignal; backOff: BackOffTimes },
  ) {
    this.#pod = pod;
    this.#effects = parts.effects;
    this.#log = parts.log;
    this.#signal = parts.signal;
    this.#backOff = new BackOff(parts.backOff);
  }

  /** The pod has changed, or its VM has. */
  poke(pod?: PodView): void {
    if (pod !== undefined) this.#pod = pod;
    this.#dirty = true;
    this.#working ??= this.#work();
  }

  /** The pod is gone. */
  end(): void {
    this.#gone = true;
    clearTimeout(this.#retry);
  }

  /** Resolves when nothing is under way any more; for the agent's end, after the signal was aborted. */
  async settled(): Promise<void> {
    clearTimeout(this.#retry);
    await this.#working;
    await Promise.all(this.#calls);
  }

  async #work(): Promise<void> {
    // Never settled before `poke` has noted it.
    await Promise.resolve();
    try {
      while (this.#dirty && !this.#over()) {
        this.#dirty = false;
        await this.#step();
      }
    } catch (error) {
      await this.#failed(error);
    } finally {
      this.#working = undefined;
    }
    // Something came between the last look and here.
    if (this.#dirty && this.#retry === undefined && !this.#over()) this.poke();
  }

  async #step(): Promise<void> {
    const plan = planPod(this.#pod, this.#effects.vm(this.#pod), this.#asked, new Date());
    if (plan.answer !== undefined) {
      this.#pod = await this.#effects.annotate(this.#pod, renderPowerAnswer(plan.answer), this.#signal);
      if (plan.answer.phase === 'running') this.#asks = plan.answer.id;
      this.#dirty = true;
      this.#log.info('a power request went on', {
        pod: `${this.#pod.namespace}/${this.#pod.name}`,
        request: plan.answer.id,
        phase: plan.answer.phase,
        message: plan.answer.message,
      });
    } else if (plan.condition !== undefined) {
      this.#pod = await this.#effects.condition(this.#pod, plan.condition, this.#signal);
      this.#dirty = true;
    } else if (plan.ask !== undefined) {
      if (this.#asks === plan.ask.id) this.#ask(plan.ask);
      else await this.#lookAgain(plan.ask.id);
    }
    this.#backOff.reset();
  }

  /** An earlier agent has handed the request over, as far as we were told: another one may have taken its place since. */
  async #lookAgain(id: string): Promise<void> {
    const fresh = await this.#effects.read(this.#pod, this.#signal);
    if (fresh.uid !== this.#pod.uid) return;
    this.#pod = fresh;
    this.#asks = id;
    this.#dirty = true;
  }

  /** Not waited for: a guest may take minutes to stop, and its pod has to be told of other things meanwhile. */
  #ask(request: PowerRequest): void {
    const { id } = request;
    this.#asked = { t: 'under way', id };
    const call = this.#effects.power(this.#pod, request, this.#signal).then(
      (answer) => this.#heard(id, { t: 'answered', id, answer }),
      (error: unknown) => this.#refused(id, error),
    );
    this.#calls.add(call);
    void call.finally(() => this.#calls.delete(call));
  }

  /** What became of a request; one that has another in its place by now says nothing of that one. */
  #heard(id: string, asked: Asked | undefined): void {
    if (this.#asked?.id !== id) return;
    this.#asked = asked;
    if (asked?.t === 'answered') this.poke();
    else this.#later();
  }

  #refused(id: string, error: unknown): void {
    if (this.#signal.aborted) return;
    const { kind, message } = VmError.from(error);
    if (kind === 'FailedPrecondition') this.#heard(id, { t: 'refused', id });
    // Whether it arrived nobody knows; the shim tells when it answers again.
    else if (kind === 'Unavailable' || kind === 'DeadlineExceeded') this.#heard(id, undefined);
    else {
      const sentence =
        kind === 'Unimplemented'
          ? 'the VM’s shim is of an earlier version, without power requests; it has them after the pod is made anew'
          : message;
      const answer: PowerAnswer = { id, phase: 'failed', message: sentence, time: new Date().toISOString() };
      this.#heard(id, { t: 'answered', id, answer });
    }
  }

  async #failed(error: unknown): Promise<void> {
    if (this.#over()) return;
    const status = httpStatus(error);
    if (status === 404) return;
    // 422 answers a patch whose UID is another pod's of that name; its own worker looks after that one.
    if (status === 422) {
      this.#log.debug('the pod is another one now', { pod: this.#pod.name, uid: this.#pod.uid });
      return;
    }
    if (status === 409) {
      try {
        const fresh = await this.#effects.read(this.#pod, this.#signal);
        if (fresh.uid !== this.#pod.uid) return;
        this.#pod = fresh;
        if (this.#backOff.failures === 0) {
          this.#backOff.next();
          this.#dirty = true;
          return;
        }
      } catch (problem) {
        if (httpStatus(problem) === 404 || this.#over()) return;
        this.#report(problem);
      }
    } else this.#report(error);
    this.#later();
  }

  #over(): boolean {
    return this.#gone || this.#signal.aborted;
  }

  #report(error: unknown): void {
    if (this.#backOff.failures > 0) return;
    this.#log.warn('a pod could not be told about its VM; it is tried again', {
      pod: `${this.#pod.namespace}/${this.#pod.name}`,
      error: describeError(error),
    });
  }

  #later(): void {
    if (this.#over()) return;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.poke();
    }, this.#backOff.next());
  }
}
