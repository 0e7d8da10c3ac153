import type { Logger } from '../../core/logger.ts';
import { VmError } from '../../core/errors.ts';
import { type NodeVm, readNodeVm } from '../../control/node-vms.ts';
import type { Figures, VmStatus } from '../../control/control-service.ts';
import type { Host } from '../../host/host.ts';
import { watchDirectory } from '../../host/watch-directory.ts';
import type { PowerRequest } from '../power/power-request.ts';
import type { PowerAnswer } from '../power/power-status.ts';
import { VmLink } from './vm-link.ts';
import { isVmOf, type PodNames } from './vm-of-pod.ts';
import { answering, renewed, unanswering, type VmView } from './vm-view.ts';

/** Where the kernel has no more watches, or the directory cannot be made. */
const LOOK_AGAIN_MS = 5_000;
const VM_KEY = /^[0-9a-f]{20}$/;

/** What one VM tells when it is asked; undefined for what its shim does not answer. */
export interface Measures {
  readonly view: VmView;
  readonly status: VmStatus | undefined;
  readonly figures: Figures | undefined;
}

interface Entry {
  view: VmView;
  readonly link: VmLink;
}

/**
 * The VMs of this node: their records by inotify, their states by what their shims tell. Nothing is asked again and again.
 */
export class VmMirror implements AsyncDisposable {
  readonly #host: Host;
  readonly #stateDir: string;
  readonly #log: Logger;
  readonly #entries = new Map<string, Entry>();
  /** Watches of the VMs' directories, of those without a record as well. */
  readonly #directories = new Map<string, Disposable>();
  readonly #listeners: ((before: VmView | undefined, view: VmView | undefined) => void)[] = [];
  #watch: Disposable | undefined;
  #lookAgain: NodeJS.Timeout | undefined;
  #ended = false;
  readonly #closing = new Set<Promise<void>>();

  constructor(host: Host, stateDir: string, log: Logger) {
    this.#host = host;
    this.#stateDir = stateDir;
    this.#log = log;
  }

  /** Called with every VM that is new, changed or gone. */
  onChange(listener: (before: VmView | undefined, view: VmView | undefined) => void): void {
    this.#listeners.push(listener);
  }

  get vms(): VmView[] {
    return [...this.#entries.values()].map(({ view }) => view);
  }

  /** The VM of a pod; the youngest one while an earlier one is being cleaned up. */
  ofPod(pod: PodNames): VmView | undefined {
    return this.vms
      .filter(({ vm }) => isVmOf(vm, pod))
      .reduce<VmView | undefined>(
        (a, b) => (a === undefined || b.vm.createdAt > a.vm.createdAt ? b : a),
        undefined,
      );
  }

  /** @throws VmError as VmLink; Unavailable when the pod has no VM (any more). */
  async power(pod: PodNames, request: PowerRequest, signal: AbortSignal): Promise<PowerAnswer> {
    const view = this.ofPod(pod);
    const entry = view === undefined ? undefined : this.#entries.get(view.vm.key);
    if (entry === undefined) throw new VmError('Unavailable', 'the pod has no VM on this node');
    return await entry.link.power(request, signal);
  }

  /** Of all VMs whose shims answer, at this moment: for metrics. */
  async measures(signal: AbortSignal): Promise<Measures[]> {
    return await Promise.all(
      [...this.#entries.values()].map(async ({ view, link }) => {
        const [status, figures] = await Promise.all([
          link.status(signal).catch(unanswered),
          link.figures(signal).catch(unanswered),
        ]);
        return { view, status, figures };
      }),
    );
  }

  /** Begins. */
  start(): void {
    this.#look();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#lookAgain);
    this.#watch?.[Symbol.dispose]();
    for (const key of [...this.#entries.keys()]) this.#drop(key);
    for (const watch of this.#directories.values()) watch[Symbol.dispose]();
    this.#directories.clear();
    await Promise.all(this.#closing);
  }

  /** Watches the directory, then reads all of it: what comes between is seen twice. */
  #look(): void {
    if (this.#ended) return;
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    clearTimeout(this.#lookAgain);
    try {
      // As the first VM would make it. There is nothing to watch else.
      this.#host.makeDir(this.#stateDir, 0o700);
      this.#watch = watchDirectory(this.#stateDir, (name) => {
        if (name !== undefined && VM_KEY.test(name)) this.#refresh(name);
        // What happens to the directory itself comes under its own name.
        else if (name === undefined || name === nameOf(this.#stateDir)) this.#look();
      });
      this.#readAll();
    } catch (error) {
      this.#log.warn('VMs cannot be watched; it is tried again', { error: VmError.from(error).message });
      this.#lookAgain = setTimeout(() => this.#look(), LOOK_AGAIN_MS).unref();
    }
  }

  #readAll(): void {
    const keys = this.#host.listDir(this.#stateDir).filter((name) => VM_KEY.test(name));
    for (const key of new Set([...this.#entries.keys(), ...this.#directories.keys(), ...keys]))
      this.#refresh(key);
  }

  #refresh(key: string): void {
    if (this.#ended) return;
    this.#watchVm(key);
    const vm = readNodeVm(this.#host, this.#stateDir, key);
    const entry = this.#entries.get(key);
    if (vm === undefined) this.#drop(key);
    else if (entry === undefined) this.#add(key, vm);
    else {
      this.#show(entry, renewed(entry.view, vm));
      entry.link.poke();
    }
  }

  /** The record comes after its directory, and the control socket after the record. */
  #watchVm(key: string): void {
    const runDir = `${this.#stateDir}/${key}`;
    if (this.#host.inspect(runDir)?.kind !== 'directory') {
      this.#unwatchVm(key);
      return;
    }
    if (this.#directories.has(key)) return;
    try {
      const watch = watchDirectory(runDir, (name) => {
        // The next directory of that name needs a watch of its own.
        if (name === undefined || name === key) this.#unwatchVm(key);
        if (name === undefined || [key, 'record.json', 'control.sock'].includes(name)) this.#refresh(key);
      });
      this.#directories.set(key, watch);
    } catch (error) {
      if (!VmError.is(error, 'NotFound'))
        this.#log.warn('a VM cannot be watched', { vm: key, error: VmError.from(error).message });
    }
  }

  #unwatchVm(key: string): void {
    this.#directories.get(key)?.[Symbol.dispose]();
    this.#directories.delete(key);
  }

  #add(key: string, vm: NodeVm): void {
    const link = new VmLink(vm.controlSocket, (status) => this.#told(key, status));
    const entry: Entry = { view: { t: 'new', vm }, link };
    this.#entries.set(key, entry);
    this.#tell(undefined, entry.view);
  }

  #told(key: string, status: VmStatus | undefined): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    const vm = readNodeVm(this.#host, this.#stateDir, key) ?? entry.view.vm;
    this.#show(entry, status === undefined ? unanswering(vm) : answering(vm, status));
  }

  #show(entry: Entry, view: VmView): void {
    const before = entry.view;
    entry.view = view;
    this.#tell(before, view);
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    const closing = entry.link[Symbol.asyncDispose]();
    this.#closing.add(closing);
    void closing.finally(() => this.#closing.delete(closing));
    this.#tell(entry.view, undefined);
  }

  #tell(before: VmView | undefined, view: VmView | undefined): void {
    for (const listener of this.#listeners) listener(before, view);
  }
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function unanswered(error: unknown): undefined {
  if (!VmError.is(error)) throw error;
}
