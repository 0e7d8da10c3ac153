import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { CriNode } from '../cri-containerd.ts';
import { CriPod } from '../cri-pod.ts';
import type { ContainerItem, PodSandboxItem } from '../cri/messages.ts';
import { patience } from '../machine-traits.ts';
import { vmImage } from '../vm-image.ts';

/** Longer than anything takes on a busy machine; more is a pod that is stuck. */
const STUCK_MS = patience(300_000);
const PAUSE_MS = 100;
/** MiB: behind the partition of the test guest's disk. */
const JOURNAL_AT = 64;

/** What a pod tells of what is done for it. */
export interface PodObserver {
  starting(container: string, log: string): void;
  started(container: string): void;
  ended(container: string): void;
  /** A call that failed and is made again. */
  failed(error: unknown): void;
}

/** A pod that does not come to what is wanted of it. */
export class StuckError extends Error {}

/**
 * A pod as kubelet keeps it: whatever happens, it looks at what CRI has, and does the next thing until the pod runs or is gone.
 * Its spec is the same each time, as kubelet's is.
 */
export class KeptPod {
  readonly name: string;
  readonly uid = randomUUID();
  readonly #node: CriNode;
  readonly #seed: number;
  readonly #observer: PodObserver;
  #pod: CriPod | undefined;
  #container: string | undefined;
  #sandboxAttempt = 0;
  #containerAttempt = 0;
  readonly #started = new Set<string>();

  constructor(node: CriNode, name: string, seed: number, observer: PodObserver) {
    this.#node = node;
    this.name = name;
    this.#seed = seed;
    this.#observer = observer;
  }

  /** The sandbox that was run last. */
  get sandbox(): string | undefined {
    return this.#pod?.id;
  }

  /** The container that was made last. */
  get container(): string | undefined {
    return this.#container;
  }

  /** Where kubelet keeps what it has of the pod. */
  get directory(): string {
    return `${this.#node.kubeletDir}/pods/${this.uid}`;
  }

  /** Resolves when its container runs. */
  run(): Promise<void> {
    return this.#until('runs', () => this.#towardsRunning());
  }

  /** Resolves when its container has been stopped. Nothing starts it again before `run`. */
  stop(graceSeconds: number): Promise<void> {
    return this.#until('is stopped', async () => {
      const containerId = this.#container ?? '';
      await this.#node.cri.call('StopContainer', { containerId, timeout: graceSeconds });
      return true;
    });
  }

  /** Resolves when CRI knows nothing of it any more; it can be run again. */
  remove(): Promise<void> {
    return this.#until('is gone', async () => {
      const sandboxes = await this.#sandboxes();
      for (const { id } of sandboxes) await this.#removeSandbox(id);
      return sandboxes.length === 0;
    });
  }

  /** After `remove`: kubelet forgets the pod. */
  forget(): void {
    rmSync(this.directory, { recursive: true, force: true });
    rmSync(`${this.#node.kubeletDir}/log/shop_${this.name}_${this.uid}`, { recursive: true, force: true });
  }

  /** One step after the other until one says that there is none left. */
  async #until(what: string, step: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + STUCK_MS;
    let last: unknown;
    for (;;) {
      try {
        if (await step()) return;
        last = undefined;
      } catch (error) {
        last = error;
        this.#observer.failed(error);
        await delay(PAUSE_MS);
      }
      if (Date.now() > deadline)
        throw new StuckError(`pod ${this.name} is stuck before it ${what}: ${String(last)}`);
    }
  }

  async #towardsRunning(): Promise<boolean> {
    const [newest, ...older] = await this.#sandboxes();
    for (const { id } of older) await this.#removeSandbox(id);
    if (newest === undefined || newest.state !== 'SANDBOX_READY' || newest.id !== this.#pod?.id) {
      if (newest !== undefined) await this.#removeSandbox(newest.id);
      this.#pod = await CriPod.run(NO_TEARDOWN, this.#node, {
        name: this.name,
        uid: this.uid,
        attempt: this.#sandboxAttempt++,
      });
      return false;
    }
    const { containers } = await this.#node.cri.call('ListContainers', {
      filter: { podSandboxId: newest.id },
    });
    for (const container of containers) this.#noteEnd(container);
    if (containers.some(({ state, id }) => state === 'CONTAINER_RUNNING' && id === this.#container))
      return true;
    for (const { id } of containers) await this.#node.cri.call('RemoveContainer', { containerId: id });
    await this.#startContainer(this.#pod);
    return false;
  }

  async #startContainer(pod: CriPod): Promise<void> {
    const { kernelBoot } = await vmImage();
    const cmdline = kernelBoot['vmshim.io/cmdline'] ?? '';
    const journal = `journal run /dev/vda ${JOURNAL_AT} ${this.#seed} auto`;
    const container = await pod.create({
      annotations: {
        ...kernelBoot,
        'vmshim.io/memory': '96Mi',
        'vmshim.io/cmdline': `${cmdline} vmguest.run="${journal}"`,
      },
      attempt: this.#containerAttempt++,
    });
    this.#container = container.id;
    this.#observer.starting(container.id, container.log.path);
    await container.start();
    this.#started.add(container.id);
    this.#observer.started(container.id);
  }

  #noteEnd({ id, state }: ContainerItem): void {
    if (state === 'CONTAINER_EXITED' && this.#started.delete(id)) this.#observer.ended(id);
  }

  /** Newest first. */
  async #sandboxes(): Promise<PodSandboxItem[]> {
    const labelSelector = { 'io.kubernetes.pod.uid': this.uid };
    const { items } = await this.#node.cri.call('ListPodSandbox', { filter: { labelSelector } });
    return items.toSorted((a, b) => b.metadata.attempt - a.metadata.attempt);
  }

  /** In kubelet's order. */
  async #removeSandbox(id: string): Promise<void> {
    const { cri } = this.#node;
    await cri.call('StopPodSandbox', { podSandboxId: id });
    const { containers } = await cri.call('ListContainers', { filter: { podSandboxId: id } });
    for (const container of containers) {
      this.#noteEnd(container);
      await cri.call('RemoveContainer', { containerId: container.id });
    }
    await cri.call('RemovePodSandbox', { podSandboxId: id });
  }
}

/** It is ourselves who remove it. */
const NO_TEARDOWN = { teardown: (): void => undefined };
