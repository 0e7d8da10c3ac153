import { vmshim } from '#wire';
import { type ClientStream, TtrpcClient } from '../ttrpc/client.ts';
import {
  CONTROL_SERVICE,
  type Figures,
  type NetworkStatus,
  type PowerAsk,
  type PowerStatus,
  type VmStatus,
} from './control-service.ts';

const wire = vmshim.control.v1;

/** `vmctl`'s side of the control API, one connection per VM. */
export class ControlClient implements AsyncDisposable {
  readonly #client: TtrpcClient;

  private constructor(client: TtrpcClient) {
    this.#client = client;
  }

  static async connect(socketPath: string, signal: AbortSignal): Promise<ControlClient> {
    return new ControlClient(await TtrpcClient.connect(socketPath, { signal }));
  }

  async status(signal: AbortSignal): Promise<VmStatus> {
    const payload = wire.StatusRequest.encode({}).finish();
    return wire.StatusResponse.decode(
      await this.#client.call(CONTROL_SERVICE, 'Status', payload, { signal }),
    );
  }

  /** The status now and whenever it has changed. @throws VmError Unimplemented from the shim of an earlier version. */
  async *watch(signal: AbortSignal): AsyncGenerator<VmStatus, void> {
    const payload = wire.WatchRequest.encode({}).finish();
    const options = { signal, clientStreaming: false };
    for await (const status of this.#client.openStream(CONTROL_SERVICE, 'Watch', payload, options))
      yield wire.StatusResponse.decode(status);
  }

  /** Resolves when the connection is closed, by whichever side; never rejects. */
  get closed(): Promise<void> {
    return this.#client.closed;
  }

  /** @throws VmError Unimplemented from the shim of an earlier version. */
  async network(signal: AbortSignal): Promise<NetworkStatus> {
    const payload = wire.NetworkRequest.encode({}).finish();
    return wire.NetworkResponse.decode(
      await this.#client.call(CONTROL_SERVICE, 'Network', payload, { signal }),
    );
  }

  /** @throws VmError Unimplemented from the shim of an earlier version. */
  async figures(signal: AbortSignal): Promise<Figures> {
    const payload = wire.FiguresRequest.encode({}).finish();
    return wire.FiguresResponse.decode(
      await this.#client.call(CONTROL_SERVICE, 'Figures', payload, { signal }),
    );
  }

  async resume(signal: AbortSignal): Promise<void> {
    const payload = wire.ResumeRequest.encode({}).finish();
    await this.#client.call(CONTROL_SERVICE, 'Resume', payload, { signal });
  }

  /** @throws VmError Unimplemented from the shim of an earlier version. */
  async power(request: PowerAsk, signal: AbortSignal): Promise<PowerStatus> {
    const payload = wire.PowerRequest.encode(request).finish();
    const response = wire.PowerResponse.decode(
      await this.#client.call(CONTROL_SERVICE, 'Power', payload, { signal }),
    );
    return response.status ?? {};
  }

  /** PNG. */
  async screenshot(): Promise<Buffer> {
    const payload = wire.ScreenshotRequest.encode({}).finish();
    const stream = this.#client.openStream(CONTROL_SERVICE, 'Screenshot', payload);
    const parts: Uint8Array[] = [];
    for await (const part of stream) parts.push(wire.ScreenshotPart.decode(part).data);
    return Buffer.concat(parts);
  }

  console(replayBytes: number): ConsoleStream {
    return new ConsoleStream(
      this.#client.openStream(
        CONTROL_SERVICE,
        'Console',
        wire.ConsoleRequest.encode({ replayBytes }).finish(),
      ),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }
}

/** The console of a running VM: iterate for output, `type` for input. */
export class ConsoleStream implements AsyncIterable<Uint8Array> {
  readonly #stream: ClientStream;

  constructor(stream: ClientStream) {
    this.#stream = stream;
  }

  async type(data: Uint8Array): Promise<void> {
    await this.#stream.send(wire.ConsoleInput.encode({ data }).finish());
  }

  close(): void {
    this.#stream.closeSend();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void> {
    for await (const message of this.#stream) yield wire.ConsoleOutput.decode(message).data;
  }
}
