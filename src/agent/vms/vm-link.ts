import { VmError } from '../../core/errors.ts';
import { ControlClient } from '../../control/control-client.ts';
import type { Figures, VmStatus } from '../../control/control-service.ts';
import { BackOff } from '../kube/back-off.ts';
import type { PowerRequest } from '../power/power-request.ts';
import { type PowerAnswer, shimAnswer } from '../power/power-status.ts';

/** For the moment between a socket's name and its listener, and for a shim that is busy dying. */
const RETRY = { first: 50, most: 2_000 };
const RETRIES = 6;
const ANSWER_MS = 5_000;
/** A QEMU that hangs is not to keep Prometheus waiting, which gives up after ten seconds. */
const FIGURES_MS = 2_000;

/**
 * The connection to one VM's shim, which tells whenever the VM's state changes. When it is lost it comes back after `poke`:
 * whoever serves that VM next makes its socket anew, and that is seen.
 */
export class VmLink implements AsyncDisposable {
  readonly #path: string;
  readonly #told: (status: VmStatus | undefined) => void;
  readonly #end = new AbortController();
  readonly #done: Promise<void>;
  #client: ControlClient | undefined;
  #poked: PromiseWithResolvers<undefined> = Promise.withResolvers();

  /** @param told is called with every status, and with undefined when there is nobody (any more) who tells. */
  constructor(controlSocket: string, told: (status: VmStatus | undefined) => void) {
    this.#path = controlSocket;
    this.#told = told;
    this.#done = this.#run();
  }

  /** Something of the VM has changed on disk. */
  poke(): void {
    this.#poked.resolve(undefined);
  }

  /**
   * Resolves when the request is done or has failed.
   * @throws VmError Unavailable when the shim does not answer, and its own refusals.
   */
  async power(request: PowerRequest, signal: AbortSignal): Promise<PowerAnswer> {
    // A connection of its own, so that one which breaks is seen here as well.
    await using client = await ControlClient.connect(this.#path, signal);
    const { id, action, graceSeconds = 0, force } = request;
    const answer = shimAnswer(await client.power({ id, action, graceSeconds, force, wait: true }, signal));
    if (answer === undefined) throw new VmError('Internal', 'the VM’s shim answered without a status');
    return answer;
  }

  /** The status at this moment. @throws VmError Unavailable, DeadlineExceeded. */
  async status(signal: AbortSignal): Promise<VmStatus> {
    return await this.#connected().status(AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]));
  }

  /** What QEMU and the guest have to tell. @throws VmError as status; FailedPrecondition where no QEMU runs. */
  async figures(signal: AbortSignal): Promise<Figures> {
    return await this.#connected().figures(AbortSignal.any([signal, AbortSignal.timeout(FIGURES_MS)]));
  }

  #connected(): ControlClient {
    if (this.#client === undefined) throw new VmError('Unavailable', 'the VM’s shim does not answer');
    return this.#client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { signal } = this.#end;
    const backOff = new BackOff(RETRY);
    while (!signal.aborted) {
      const poked = this.#poked.promise;
      try {
        await this.#listen(signal, backOff);
      } catch (error) {
        if (!VmError.is(error)) throw error;
      }
      await this.#pause(poked, backOff, signal);
    }
  }

  /** Nobody tells any more: until a poke; for the first few failures in a row at most for a moment. */
  async #pause(poked: Promise<undefined>, backOff: BackOff, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    this.#told(undefined);
    const waits: Promise<unknown>[] = [poked, aborted(signal)];
    const moment = new AbortController();
    if (backOff.failures < RETRIES) {
      waits.push(backOff.wait(AbortSignal.any([signal, moment.signal])).catch(() => undefined));
    }
    // Something new may take its moments again: a socket has its name before anybody listens there.
    void poked.then(() => backOff.reset());
    await Promise.race(waits);
    moment.abort();
    this.#poked = Promise.withResolvers();
  }

  async #listen(signal: AbortSignal, backOff: BackOff): Promise<void> {
    await using client = await ControlClient.connect(this.#path, signal);
    this.#client = client;
    // A shim that hangs is waited for, but it is told of.
    const late = setTimeout(() => this.#told(undefined), ANSWER_MS);
    const heard = (): void => {
      clearTimeout(late);
      backOff.reset();
    };
    try {
      for await (const status of client.watch(signal)) {
        heard();
        this.#told(status);
      }
    } catch (error) {
      if (!VmError.is(error, 'Unimplemented')) throw error;
      await this.#ask(client, signal, heard);
    } finally {
      clearTimeout(late);
      this.#client = undefined;
    }
  }

  /** A shim of an earlier version, which tells when it is asked: then whenever something has changed on disk. */
  async #ask(client: ControlClient, signal: AbortSignal, heard: () => void): Promise<void> {
    while (!signal.aborted) {
      const status = await client.status(AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]));
      heard();
      this.#told(status);
      await Promise.race([this.#poked.promise, client.closed, aborted(signal)]);
      this.#poked = Promise.withResolvers();
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  if (signal.aborted) resolve(undefined);
  else signal.addEventListener('abort', () => resolve(undefined), { once: true });
  return promise;
}
