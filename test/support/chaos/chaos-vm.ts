import { setTimeout as delay } from 'node:timers/promises';
import type { CriNode } from '../cri-containerd.ts';
import { patience } from '../machine-traits.ts';
import { GuestLog } from './guest-log.ts';
import {
  type Boots,
  countStart,
  expectBoots,
  type GuestModel,
  hear,
  NEW_GUEST,
  parseSaid,
  settle,
} from './guest-model.ts';
import { KeptPod, type PodObserver, StuckError } from './kept-pod.ts';

/** Longer than a guest takes to boot on a busy machine, and to write again after anything else. */
const SILENT_MS = patience(300_000);
const LOOK_MS = 50;
/** Looks between two of kubelet's, which looks at a pod once a second. */
const LOOKS_PER_SYNC = 10;
/** Generations by which a guest proves that it goes on. */
const PROOF = 3;

/** Where violations and the ends of containers are told. */
export interface ChaosCourt {
  violation(text: string): void;
  readonly exits: Pick<PodObserver, 'started' | 'ended'>;
  retry(pod: string, error: unknown): void;
}

/** A pod, its guest, and what must hold for it. */
export class ChaosVm {
  readonly #node: CriNode;
  readonly #name: string;
  readonly #seed: number;
  readonly #court: ChaosCourt;
  #pod: KeptPod;
  #log = new GuestLog();
  #model: GuestModel = NEW_GUEST;
  /** Of the guests before this one. */
  #before = { boots: 0, verified: 0 };

  constructor(node: CriNode, name: string, seed: number, court: ChaosCourt) {
    this.#node = node;
    this.#name = name;
    this.#seed = seed;
    this.#court = court;
    this.#pod = this.#newPod();
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
    await this.#pod.remove();
    this.look();
    this.#pod.forget();
    this.#before = { boots: this.boots, verified: this.verified };
    this.#pod = this.#newPod();
    this.#log = new GuestLog();
    this.#model = NEW_GUEST;
  }

  /** What is about to be done boots the guest, or does not. */
  expect(boots: Boots): void {
    this.#model = expectBoots(this.#model, boots);
  }

  /** Takes note of what the guest has said; gives the last generation that it has flushed. */
  look(): number {
    for (const line of this.#log.news()) {
      const said = parseSaid(line);
      if (said === undefined) continue;
      const { model, violations } = hear(this.#model, said);
      this.#model = model;
      for (const text of violations) this.#court.violation(`${this.pod.name}: ${text}`);
    }
    return this.#model.flushed;
  }

  /** Does what kubelet does until the guest writes on, and judges whether it booted. */
  async settle(): Promise<void> {
    const before = this.look();
    const deadline = Date.now() + SILENT_MS;
    for (let looks = 0; ; looks++) {
      // A container that runs as far as anybody knows may be one whose shim was killed just now.
      if (looks % LOOKS_PER_SYNC === 0) await this.pod.run();
      if (this.look() >= before + PROOF && !this.#bootIsDue()) break;
      if (Date.now() > deadline)
        throw new StuckError(
          `${this.pod.name}: its container runs and its guest, in boot ${this.#model.boot}, says nothing new`,
        );
      await delay(LOOK_MS);
    }
    const { model, violations } = settle(this.#model);
    this.#model = model;
    for (const text of violations) this.#court.violation(`${this.pod.name}: ${text}`);
  }

  /** Waits until the guest has flushed so many generations more, without touching the pod. @returns whether it did. */
  async writes(generations: number, withinMs: number): Promise<boolean> {
    const before = this.look();
    const deadline = Date.now() + withinMs;
    while (this.look() < before + generations) {
      if (Date.now() > deadline) return false;
      await delay(LOOK_MS);
    }
    return true;
  }

  /** What is still in the log may be of the boot that ended. */
  #bootIsDue(): boolean {
    const { boots, boot, settledBoot } = this.#model;
    return boots === 'must' && boot === settledBoot;
  }

  #newPod(): KeptPod {
    return new KeptPod(this.#node, this.#name, this.#seed, {
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
