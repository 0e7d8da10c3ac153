import { describeError, VmError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { NodeVm } from '../../control/node-vms.ts';
import { isVmOf } from '../vms/vm-of-pod.ts';
import { BackOff, type BackOffTimes } from './back-off.ts';
import { httpStatus } from './kube-api.ts';
import type { NodePods } from './node-pods.ts';
import { parsePod, type PodView } from './pod-view.ts';
import type { WatchTimes } from './watch.ts';

export interface MirrorTimes {
  readonly watch: WatchTimes;
  readonly backOff: BackOffTimes;
}

/** How the connection to the API server is doing, for health and metrics. */
export interface MirrorState {
  /** The server answers; what is mirrored is as fresh as its events. */
  readonly connected: boolean;
  /** Milliseconds since the epoch of the first complete list; undefined before. */
  readonly syncedAt: number | undefined;
  readonly lists: number;
  readonly watches: number;
  readonly failures: number;
}

/** How a server says "too old", and "not there yet" when asked for what is not older than a version. */
const OTHER_VERSION = new Set([410, 504]);

/**
 * The pods of this node as the API server tells of them: one list, then a watch for as long as there is somebody to watch.
 * During an outage it stays as it was.
 */
export class PodMirror {
  readonly #pods = new Map<string, PodView>();
  readonly #source: NodePods;
  readonly #times: MirrorTimes;
  readonly #log: Logger;
  readonly #backOff: BackOff;
  readonly #listeners: ((uid: string, pod: PodView | undefined) => void)[] = [];
  readonly #syncListeners: (() => void)[] = [];
  #state: MirrorState = { connected: false, syncedAt: undefined, lists: 0, watches: 0, failures: 0 };
  /** Where the next watch goes on; undefined when only a list can tell. */
  #version: string | undefined;
  /** What the next list must not be older than; '' for the newest. */
  #notOlderThan = '0';

  constructor(source: NodePods, times: MirrorTimes, log: Logger) {
    this.#source = source;
    this.#times = times;
    this.#log = log;
    this.#backOff = new BackOff(times.backOff);
  }

  /** By UID. */
  get pods(): ReadonlyMap<string, PodView> {
    return this.#pods;
  }

  /** The pod whose VM that is. */
  ofVm(vm: NodeVm): PodView | undefined {
    const pod = vm.podUid === undefined ? undefined : this.#pods.get(vm.podUid);
    return pod ?? this.#pods.values().find((it) => isVmOf(vm, it));
  }

  get state(): MirrorState {
    return this.#state;
  }

  /** Called with every pod that is new or has changed, and with undefined for one that is gone. */
  onChange(listener: (uid: string, pod: PodView | undefined) => void): void {
    this.#listeners.push(listener);
  }

  /** Called after every complete list. */
  onSync(listener: () => void): void {
    this.#syncListeners.push(listener);
  }

  /** Mirrors until the signal aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#version === undefined) await this.#list(signal);
        if (await this.#follow(signal)) this.#backOff.reset();
        // A server that ends every watch at once is not asked without end.
        else await this.#backOff.wait(signal);
      } catch (error) {
        await this.#recover(error, signal);
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { pods, version } = await this.#source.list(this.#notOlderThan, signal);
    this.#version = version;
    this.#notOlderThan = version;
    this.#connected();
    this.#state = {
      ...this.#state,
      lists: this.#state.lists + 1,
      syncedAt: this.#state.syncedAt ?? Date.now(),
    };
    const listed = new Set(pods.map(({ uid }) => uid));
    for (const uid of [...this.#pods.keys()]) if (!listed.has(uid)) this.#forget(uid);
    for (const pod of pods) {
      if (this.#pods.get(pod.uid)?.resourceVersion !== pod.resourceVersion) this.#learn(pod);
    }
    for (const listener of this.#syncListeners) listener();
  }

  /** @returns whether anything came. */
  async #follow(signal: AbortSignal): Promise<boolean> {
    let came = false;
    this.#state = { ...this.#state, watches: this.#state.watches + 1 };
    const started = performance.now();
    const events = await this.#source.openWatch(this.#version ?? '', this.#times.watch, signal);
    this.#connected();
    for await (const event of events) {
      came = true;
      this.#backOff.reset();
      if (event.version !== '') {
        this.#version = event.version;
        this.#notOlderThan = event.version;
      }
      if (event.t === 'changed') this.#learn(parsePod(event.object));
      if (event.t === 'deleted') this.#forget(parsePod(event.object).uid);
    }
    return came || performance.now() - started > this.#times.backOff.most;
  }

  async #recover(error: unknown, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const gone = httpStatus(error) === 410;
    if (gone) this.#version = undefined;
    // The list's own version can be too old, or newer than what the server that is asked now has seen.
    if (this.#version === undefined && OTHER_VERSION.has(httpStatus(error) ?? 0)) this.#notOlderThan = '';
    if (gone && this.#backOff.failures === 0) {
      this.#backOff.next();
      return;
    }
    if (!gone) {
      this.#state = { ...this.#state, failures: this.#state.failures + 1 };
      if (this.#state.connected || this.#backOff.failures === 0) {
        this.#log.warn('the API server cannot be watched; VMs go on, requests wait', {
          error: describeError(error),
        });
      }
      this.#state = { ...this.#state, connected: false };
    }
    await this.#backOff.wait(signal).catch((reason: unknown) => {
      if (!VmError.is(reason)) throw reason;
    });
  }

  #connected(): void {
    if (this.#state.connected) return;
    this.#state = { ...this.#state, connected: true };
    this.#log.info('the API server answers');
  }

  #learn(pod: PodView): void {
    this.#pods.set(pod.uid, pod);
    for (const listener of this.#listeners) listener(pod.uid, pod);
  }

  #forget(uid: string): void {
    if (!this.#pods.delete(uid)) return;
    for (const listener of this.#listeners) listener(uid, undefined);
  }
}
