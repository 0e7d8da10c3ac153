import { setTimeout as delay } from 'node:timers/promises';
import { patience } from '../machine-traits.ts';
import type { ChaosNode } from './chaos-node.ts';
import { GuestLog } from './guest-log.ts';
import {
  countStart,
  expectBoots,
  type GuestModel,
  hear,
  NEW_GUEST,
  parseSaid,
  settle,
} from './guest-model.ts';
import { KeptPod, type PodObserver, StuckError } from './kept-pod.ts';
import { Orders } from './orders.ts';
import {
  apply,
  applyPerhaps,
  type Effect,
  NEW_VM,
  type Power,
  type Powers,
  type PowerVerb,
} from './power-model.ts';
import type { Answer } from './request-ledger.ts';

/** Longer than a guest takes to boot on a busy machine, and to write again after anything else. */
const SILENT_MS = patience(300_000);
const LOOK_MS = 50;
/** Looks between two of kubelet's, which looks at a pod once a second. */
const LOOKS_PER_SYNC = 10;
/** Generations by which a guest proves that it goes on. */
const PROOF = 3;
/** In which a guest that runs says something even on a busy machine, and most of what it said before has arrived. */
const STILL_MS = 500;

/** Where violations and the ends of containers are told. */
export interface ChaosCourt {
  violation(text: string): void;
  readonly exits: Pick<PodObserver, 'started' | 'ended'>;
  retry(pod: string, error: unknown): void;
}

/** A pod, its guest, and what must hold for it. */
export class ChaosVm {
  readonly #chaos: ChaosNode;
  readonly #name: string;
  readonly #seed: number;
  readonly #court: ChaosCourt;
  #pod: KeptPod;
  #log = new GuestLog();
  #model: GuestModel = NEW_GUEST;
  #powers: Powers = NEW_VM;
  /** Of its pod as the API server has it. */
  #orders: Orders;
  /** Orders that nobody has waited for yet. */
  #open: { readonly id: string; readonly effect: Effect }[] = [];
  /** Of the guests before this one. */
  #before = { boots: 0, verified: 0 };

  constructor(chaos: ChaosNode, name: string, seed: number, court: ChaosCourt) {
    this.#chaos = chaos;
    this.#name = name;
    this.#seed = seed;
    this.#court = court;
    this.#pod = this.#newPod();
    this.#orders = this.#newOrders();
  }

  get pod(): KeptPod {
    return this.#pod;
  }

  get boots(): number {
    return this.#before.boots + this.#model.boot;
  }

  /** Bytes that its guests have verified. */
  get verified(): number {
    return this.#before.verified + this.#model.verified;
  }

  /** Deletes the pod for good; the next one has another UID, and a guest with an empty disk. */
  async replace(): Promise<void> {
    this.#orders.deleting();
    await this.#pod.remove();
    this.look();
    this.forget();
    this.#before = { boots: this.boots, verified: this.verified };
    this.#pod = this.#newPod();
    this.#log = new GuestLog();
    this.#model = NEW_GUEST;
    this.#powers = NEW_VM;
    this.#orders = this.#newOrders();
  }

  /** After its pod was removed: neither kubelet nor the API server knows it any more. */
  forget(): void {
    this.#pod.forget();
    this.#orders.deleted();
  }

  /** An operator's annotation of the pod. @returns its id. */
  order(action: PowerVerb, options: object, effect: Effect): string {
    const id = this.#orders.give(action, options);
    this.#open.push({ id, effect });
    return id;
  }

  /** Resolves with what became of an order, while the VM's container runs. */
  async answered(id: string): Promise<Answer> {
    const deadline = Date.now() + SILENT_MS;
    for (;;) {
      const answer = this.#orders.answer(id);
      if (answer !== undefined) {
        this.#open = this.#open.filter((order) => order.id !== id);
        return answer;
      }
      this.#expectPatience(deadline);
      await delay(LOOK_MS);
    }
  }

  /** What it may be now. */
  get powers(): Powers {
    return this.#powers;
  }

  /**
   * Something is about to be done to it, which may fail half-way.
   * @param starts whether it is a start that kubelet does not do.
   * @returns what is to be called when it is done: `alone` where nothing else was done meanwhile.
   */
  begin(effect: Effect, starts: boolean): (alone: boolean) => void {
    const before = this.#powers;
    this.#expect(applyPerhaps(before, effect));
    if (starts) this.#model = countStart(this.#model);
    return (alone) => {
      const { powers } = applyPerhaps(this.#powers, effect);
      this.#expect(alone ? apply(before, effect) : { ...apply(powers, effect), powers });
    };
  }

  #expect({ powers, boots }: ReturnType<typeof apply>): void {
    this.#powers = powers;
    this.#model = expectBoots(this.#model, boots);
  }

  /** Takes note of what the guest has said; gives the last generation that it has flushed. */
  look(): number {
    for (const line of this.#log.news()) {
      const said = parseSaid(line);
      // What a guest does while its QEMU ends comes to nothing, and need not.
      if (said === undefined || (said.t === 'failed' && this.#powers.has('off'))) continue;
      const { model, violations } = hear(this.#model, said);
      this.#model = model;
      for (const text of violations) this.#court.violation(`${this.pod.name}: ${text}`);
    }
    return this.#model.flushed;
  }

  /**
   * Does what kubelet does until the container runs and the VM has the power that it should have: a guest that is on writes,
   * and is judged by whether it booted; of one that is off there is no QEMU; one that is paused says nothing.
   */
  async settle(): Promise<void> {
    const before = this.look();
    const deadline = Date.now() + SILENT_MS;
    for (let looks = 0; ; looks++) {
      if (this.#open.length > 0) {
        if (looks % LOOKS_PER_SYNC === 0) await this.pod.run();
        this.#takeAnswers();
        this.#expectPatience(deadline);
        await delay(LOOK_MS);
        continue;
      }
      // A container that runs as far as anybody knows may be one whose shim was killed just now.
      if (looks % LOOKS_PER_SYNC === 0) {
        await this.pod.run();
        if (!this.#isOn()) {
          const found = await this.#chaos.power(this);
          if (found !== undefined) this.#judgePower(found);
          if (found === 'off') this.#judgeOff();
          if (found === 'off' || (found === 'paused' && (await this.#standsStill()))) {
            await this.#conditionSays(found, deadline);
            return;
          }
        }
      }
      if (this.look() >= before + PROOF && this.#isOn() && !this.#bootIsDue()) break;
      if (Date.now() > deadline)
        throw new StuckError(
          `${this.pod.name}: its container runs and its guest, in boot ${this.#model.boot}, says nothing new, or does not stand still; it may be ${[...this.#powers].join(' or ')}`,
        );
      await delay(LOOK_MS);
    }
    const { model, violations } = settle(this.#model);
    this.#model = model;
    for (const text of violations) this.#court.violation(`${this.pod.name}: ${text}`);
    await this.#conditionSays('on', deadline);
  }

  /** Waits until the guest has flushed so many generations more, without touching the pod. @returns whether it did. */
  async writes(generations: number, withinMs: number): Promise<boolean> {
    if (!this.#powers.has('on')) return false;
    const before = this.look();
    const deadline = Date.now() + withinMs;
    while (this.look() < before + generations) {
      if (Date.now() > deadline) return false;
      await delay(LOOK_MS);
    }
    return true;
  }

  /** What was asked while something else was done may have come before it, after it, or to nothing. */
  #takeAnswers(): void {
    this.#open = this.#open.filter(({ id, effect }) => {
      if (this.#orders.answer(id) === undefined) return true;
      const { powers } = applyPerhaps(this.#powers, effect);
      this.#expect({ ...apply(this.#powers, effect), powers });
      return false;
    });
  }

  async #conditionSays(power: Power, deadline: number): Promise<void> {
    while (!this.#orders.conditionIs(power)) {
      if (Date.now() > deadline)
        throw new StuckError(
          `${this.pod.name} is ${power}, and its condition says: ${this.#orders.describe()}`,
        );
      await delay(LOOK_MS);
    }
  }

  #expectPatience(deadline: number): void {
    if (Date.now() > deadline)
      throw new StuckError(`${this.pod.name} has a power request without an end: ${this.#orders.describe()}`);
  }

  #isOn(): boolean {
    return this.#powers.size === 1 && this.#powers.has('on');
  }

  #judgePower(found: Power): void {
    if (!this.#powers.has(found))
      this.#court.violation(`${this.pod.name} is ${found}, it should be ${[...this.#powers].join(' or ')}`);
    this.#powers = new Set([found]);
  }

  #judgeOff(): void {
    const qemus = this.#chaos.qemusOf(this);
    if (qemus.length > 0)
      this.#court.violation(`${this.pod.name} is off and has a QEMU: ${qemus.join(', ')}`);
    this.look();
  }

  /** One that boots or goes on before it is asked to says so in its log. */
  async #standsStill(): Promise<boolean> {
    const before = this.look();
    await delay(STILL_MS);
    return this.look() === before;
  }

  /** What is still in the log may be of the boot that ended. */
  #bootIsDue(): boolean {
    const { boots, boot, settledBoot } = this.#model;
    return boots === 'must' && boot === settledBoot;
  }

  /** The API server knows the pod before kubelet does. */
  #newOrders(): Orders {
    return new Orders(this.#chaos.agent.kube, this.#pod);
  }

  #newPod(): KeptPod {
    return new KeptPod(this.#chaos.node, this.#name, this.#seed, {
      starting: (_, log) => {
        this.#model = countStart(this.#model);
        this.#log.follow(log);
      },
      started: (container) => this.#court.exits.started(container),
      ended: (container) => this.#court.exits.ended(container),
      failed: (error) => this.#court.retry(this.#name, error),
    });
  }
}
