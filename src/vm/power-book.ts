import { VmError } from '../core/errors.ts';
import type { PowerRequest, PowerStatus } from './power-request.ts';

/** So many are remembered. A caller that asks again after a lost answer asks for one of the last. */
const REMEMBERED = 32;

export interface PowerBookDeps {
  /** Carries a request out. @returns what there is to say. @throws what it fails with. */
  readonly perform: (request: PowerRequest) => Promise<string>;
  /** Writes the statuses down, before what they tell of begins. */
  readonly record: (statuses: readonly PowerStatus[]) => void;
  /** What was written down by an earlier process. */
  readonly earlier: readonly PowerStatus[];
}

interface Entry {
  status: PowerStatus;
  /** Never rejects. */
  readonly settled: Promise<PowerStatus>;
}

/** The power requests of one VM: each is carried out once, and one at a time. */
export class PowerBook {
  readonly #deps: PowerBookDeps;
  /** In the order they were asked. */
  readonly #entries: Entry[];

  constructor(deps: PowerBookDeps) {
    this.#deps = deps;
    this.#entries = deps.earlier.map((status) => settledEntry(interrupted(status)));
  }

  /** Of the last request. */
  get last(): PowerStatus | undefined {
    return this.#entries.at(-1)?.status;
  }

  /**
   * Begins a request, unless its id is known.
   * @returns its status now, and its last one when it is settled.
   * @throws VmError FailedPrecondition while another one is under way that this one does not cut short, InvalidArgument for
   * an id that had another action.
   */
  ask(request: PowerRequest): { readonly status: PowerStatus; readonly settled: Promise<PowerStatus> } {
    const known = this.#entries.find(({ status }) => status.id === request.id);
    if (known !== undefined) {
      if (known.status.action === request.action) return known;
      throw new VmError(
        'InvalidArgument',
        `power request "${request.id}" was a ${known.status.action} before and is a ${request.action} now; give each request an id of its own`,
      );
    }
    const busy = this.#entries.findLast(({ status }) => status.phase === 'running' && !cuts(request, status));
    if (busy !== undefined) {
      const { action, id } = busy.status;
      throw new VmError(
        'FailedPrecondition',
        `cannot ${request.action}: the ${action} of request "${id}" is under way; wait for it${action === 'stop' || action === 'reboot' ? ', or end it with a forced stop' : ''}`,
      );
    }
    return this.#begin(request);
  }

  #begin(request: PowerRequest): Entry {
    const { id, action } = request;
    const done = Promise.withResolvers<PowerStatus>();
    const entry: Entry = {
      status: { id, action, phase: 'running', message: '', at: Date.now() },
      settled: done.promise,
    };
    this.#entries.push(entry);
    try {
      this.#write();
    } catch (error) {
      this.#entries.splice(this.#entries.indexOf(entry), 1);
      throw error;
    }
    void this.#perform(request).then((end) => {
      entry.status = { id, action, ...end, at: Date.now() };
      try {
        this.#write();
      } catch {
        // A full disk loses who asked, not what was done: that is in the machine's own state.
      }
      done.resolve(entry.status);
    });
    return entry;
  }

  async #perform(request: PowerRequest): Promise<{ phase: 'done' | 'failed'; message: string }> {
    try {
      return { phase: 'done', message: await this.#deps.perform(request) };
    } catch (error) {
      return { phase: 'failed', message: VmError.from(error).message };
    }
  }

  #write(): void {
    while (this.#entries.length > REMEMBERED) this.#entries.shift();
    this.#deps.record(this.#entries.map(({ status }) => status));
  }
}

/** A forced stop need not wait for what waits for the guest. */
function cuts({ action, force }: PowerRequest, running: PowerStatus): boolean {
  return action === 'stop' && force && (running.action === 'stop' || running.action === 'reboot');
}

function settledEntry(status: PowerStatus): Entry {
  return { status, settled: Promise.resolve(status) };
}

/** Nobody carries out any more what an earlier process had begun. */
function interrupted(status: PowerStatus): PowerStatus {
  if (status.phase !== 'running') return status;
  return {
    ...status,
    phase: 'failed',
    message: 'the shim ended before it was done; see the VM’s state and ask again',
  };
}
