import { vmshim } from '#wire';
import type { MethodDefinition } from '../ttrpc/method.ts';

const wire = vmshim.control.v1;

export const CONTROL_SERVICE = 'vmshim.control.v1.Control';

const PART_BYTES = 1 << 20;

export type VmStatus = vmshim.control.v1.StatusResponse.$Properties;

export type PowerStatus = vmshim.control.v1.PowerStatus.$Properties;

export interface PowerAsk {
  readonly id: string;
  readonly action: string;
  readonly graceSeconds: number;
  readonly wait: boolean;
  readonly force: boolean;
}

export type Figures = vmshim.control.v1.FiguresResponse.$Properties;

export type NetworkStatus = vmshim.control.v1.NetworkResponse.$Properties;

/** What the control service needs of a VM. */
export interface ControlTarget {
  status(): VmStatus;
  /** Calls `changed` whenever the status has changed, until that is disposed. */
  watch(changed: () => void): Disposable;
  network(signal: AbortSignal): Promise<NetworkStatus>;
  /** @throws VmError FailedPrecondition where no QEMU runs. */
  figures(signal: AbortSignal): Promise<Figures>;
  /** PNG. @throws VmError FailedPrecondition without a screen. */
  screenshot(signal: AbortSignal): Promise<Uint8Array>;
  resume(signal: AbortSignal): Promise<void>;
  /** @throws VmError InvalidArgument, or FailedPrecondition while another request is under way. */
  power(request: PowerAsk, signal: AbortSignal): Promise<PowerStatus>;
  /** A live view of the console with the last `replayBytes` of its past. */
  attach(options: { replayBytes: number }): ConsoleView;
}

export interface ConsoleView extends Disposable {
  readonly output: AsyncIterable<Uint8Array>;
  write(data: Uint8Array): Promise<void>;
}

/** The operator's API of one VM, see proto/control.proto. */
export function controlService(target: ControlTarget): Record<string, MethodDefinition> {
  return {
    Status: { kind: 'unary', handle: () => wire.StatusResponse.encode(target.status()).finish() },
    Watch: {
      kind: 'stream',
      handle: async (_request, channel, { signal }) => {
        let wake = Promise.withResolvers<undefined>();
        const stir = (): void => wake.resolve(undefined);
        using _watch = target.watch(stir);
        signal.addEventListener('abort', stir, { once: true });
        while (!signal.aborted) {
          // Before the status is taken, so that no change is missed.
          wake = Promise.withResolvers();
          await channel.send(wire.StatusResponse.encode(target.status()).finish());
          await wake.promise;
        }
        return undefined;
      },
    },
    Network: {
      kind: 'unary',
      handle: async (_request, call) =>
        wire.NetworkResponse.encode(await target.network(call.signal)).finish(),
    },
    Figures: {
      kind: 'unary',
      handle: async (_request, { signal }) =>
        wire.FiguresResponse.encode(await target.figures(signal)).finish(),
    },
    Screenshot: {
      kind: 'stream',
      handle: async (_request, channel, { signal }) => {
        const picture = await target.screenshot(signal);
        for (let at = 0; at < picture.length; at += PART_BYTES) {
          const data = picture.subarray(at, at + PART_BYTES);
          await channel.send(wire.ScreenshotPart.encode({ data }).finish());
        }
        return undefined;
      },
    },
    Resume: {
      kind: 'unary',
      handle: async (_request, { signal }) => {
        await target.resume(signal);
        return wire.ResumeResponse.encode({}).finish();
      },
    },
    Power: {
      kind: 'unary',
      handle: async (request, { signal }) => {
        const status = await target.power(wire.PowerRequest.decode(request), signal);
        return wire.PowerResponse.encode({ status }).finish();
      },
    },
    Console: {
      kind: 'stream',
      handle: async (request, channel, call) => {
        using view = target.attach(wire.ConsoleRequest.decode(request));
        // Leaving closes the view, which ends the loop below.
        call.signal.addEventListener('abort', () => view[Symbol.dispose](), { once: true });
        const typing = (async () => {
          for await (const message of channel) {
            const { data } = wire.ConsoleInput.decode(message);
            if (data.length > 0) await view.write(data);
          }
          view[Symbol.dispose]();
        })();
        // What is typed at a console that has ended has nowhere to go.
        typing.catch(() => view[Symbol.dispose]());
        for await (const data of view.output)
          await channel.send(wire.ConsoleOutput.encode({ data }).finish());
        return undefined;
      },
    },
  };
}
