import type { Logger } from '../core/logger.ts';
import type { BackOffTimes } from './kube/back-off.ts';
import type { KubeApi } from './kube/kube-api.ts';
import { annotatePod, getPod, setCondition } from './kube/patch-pod.ts';
import type { PodMirror } from './kube/pod-mirror.ts';
import { type PodEffects, PodWorker } from './power/pod-worker.ts';
import type { Counter } from './metrics/counters.ts';
import type { VmMirror } from './vms/vm-mirror.ts';

export interface PodWorkersParts {
  readonly api: KubeApi;
  readonly pods: PodMirror;
  readonly vms: VmMirror;
  readonly backOff: BackOffTimes;
  readonly log: Logger;
  /** Requests that VMs were asked, by action. */
  readonly requests: Counter;
  /** Patches of pods, by result. */
  readonly patches: Counter;
  readonly signal: AbortSignal;
}

/** One worker for every pod of the node that has to do with VMs, poked by what changes on either side. */
export class PodWorkers implements AsyncDisposable {
  readonly #parts: PodWorkersParts;
  readonly #effects: PodEffects;
  readonly #workers = new Map<string, PodWorker>();
  readonly #ending = new Set<Promise<void>>();

  constructor(parts: PodWorkersParts) {
    this.#parts = parts;
    this.#effects = effectsOf(parts);
    parts.pods.onChange((uid, pod) => {
      if (pod === undefined) this.#drop(uid);
      else this.#poke(uid);
    });
    parts.vms.onChange((before, view) => {
      const changed = view ?? before;
      const pod = changed === undefined ? undefined : parts.pods.ofVm(changed.vm);
      if (pod !== undefined) this.#poke(pod.uid);
    });
  }

  /** After the signal was aborted. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#workers.values()].map((worker) => worker.settled()));
    await Promise.all(this.#ending);
  }

  #poke(uid: string): void {
    const pod = this.#parts.pods.pods.get(uid);
    if (pod === undefined) return;
    let worker = this.#workers.get(uid);
    if (worker === undefined) {
      // Of the node's other pods nothing is wanted.
      if (pod.request === undefined && this.#parts.vms.ofPod(pod) === undefined) return;
      const { log, signal, backOff } = this.#parts;
      worker = new PodWorker(pod, { effects: this.#effects, log, signal, backOff });
      this.#workers.set(uid, worker);
    }
    worker.poke(pod);
  }

  #drop(uid: string): void {
    const worker = this.#workers.get(uid);
    if (worker === undefined) return;
    this.#workers.delete(uid);
    worker.end();
    const ending = worker.settled();
    this.#ending.add(ending);
    void ending.finally(() => this.#ending.delete(ending));
  }
}

function effectsOf({ api, vms, requests, patches }: PodWorkersParts): PodEffects {
  const counted = async <T>(kind: string, effect: Promise<T>): Promise<T> => {
    try {
      const value = await effect;
      patches.add({ kind, result: 'ok' });
      return value;
    } catch (error) {
      patches.add({ kind, result: 'failed' });
      throw error;
    }
  };
  return {
    read: (pod, signal) => getPod(api, pod, signal),
    annotate: (pod, status, signal) => counted('annotation', annotatePod(api, pod, status, signal)),
    condition: (pod, condition, signal) => {
      // Kubernetes: the time at which its status, not its reason, has changed.
      const changed = pod.poweredOn?.status === condition.status ? undefined : new Date();
      return counted('condition', setCondition(api, pod, condition, changed, signal));
    },
    vm: (pod) => vms.ofPod(pod),
    power: (pod, request, signal) => {
      requests.add({ action: request.action });
      return vms.power(pod, request, signal);
    },
  };
}
