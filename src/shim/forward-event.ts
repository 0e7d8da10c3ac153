import { containerd, google } from '#wire';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { TtrpcClient } from '../ttrpc/client.ts';
import type { ForwardEvent, TaskEvent } from './event-publisher.ts';
import { timestamp } from './timestamp.ts';

const { ForwardRequest } = containerd.services.events.ttrpc.v1;

export interface EventRoute {
  readonly namespace: string;
  /** Path of containerd's ttrpc socket; empty where containerd is older than 1.3 or gave none. */
  readonly ttrpcAddress: string;
  readonly grpcAddress: string;
  readonly publishBinary: string;
}

/** The way events take: containerd's ttrpc socket, and its `publish` command only where there is none. */
export function eventRoute(host: Host, route: EventRoute): ForwardEvent {
  return route.ttrpcAddress === '' ? publishByCommand(host, route) : forwardByTtrpc(route);
}

/** One connection, kept while it lasts: a restarted containerd closes it and the next event opens another. */
function forwardByTtrpc({ ttrpcAddress, namespace }: EventRoute): ForwardEvent {
  const path = ttrpcAddress.replace(/^unix:\/\//, '');
  let client: TtrpcClient | undefined;
  const connect = async (signal: AbortSignal): Promise<TtrpcClient> => {
    const connected = await TtrpcClient.connect(path, { signal });
    // A restarted containerd has closed it long before the next event, which must not fail first to find out.
    void connected.closed.then(() => {
      if (client === connected) client = undefined;
    });
    return connected;
  };
  return async (event, signal) => {
    client ??= await connect(signal);
    const current = client;
    const payload = ForwardRequest.encode({ envelope: envelope(event, namespace) }).finish();
    try {
      await current.call('containerd.services.events.ttrpc.v1.Events', 'Forward', payload, {
        signal,
        metadata: { 'containerd-namespace-ttrpc': [namespace] },
      });
    } catch (error) {
      current.close();
      client = undefined;
      throw error;
    }
  };
}

function publishByCommand(host: Host, { publishBinary, grpcAddress, namespace }: EventRoute): ForwardEvent {
  return async (event, signal) => {
    if (publishBinary === '')
      throw new VmError(
        'FailedPrecondition',
        'containerd gave neither a ttrpc address nor a publish command',
      );
    const address = grpcAddress === '' ? [] : ['--address', grpcAddress];
    const input = google.protobuf.Any.encode({ typeUrl: event.typeUrl, value: event.value }).finish();
    const args = [...address, 'publish', '--topic', event.topic, '--namespace', namespace];
    try {
      await host.exec(publishBinary, args, { input, signal });
    } catch (error) {
      // Its exit status does not tell a containerd that is away from one that refuses, and ours are never refused.
      if (!VmError.is(error, 'Internal')) throw error;
      throw new VmError('Unavailable', error.message, { cause: error });
    }
  };
}

function envelope(
  event: TaskEvent,
  namespace: string,
): containerd.services.events.ttrpc.v1.Envelope.$Properties {
  return {
    timestamp: timestamp(event.at),
    namespace,
    topic: event.topic,
    event: { typeUrl: event.typeUrl, value: event.value },
  };
}
