import { createServer } from 'node:net';
import { describeError } from '../core/errors.ts';
import { textLogger } from '../core/logger.ts';
import type { AnyMessage } from '../core/protobuf-fields.ts';
import { LinuxHost } from '../host/linux-host.ts';
import { logFifo } from '../host/log-fifo.ts';
import { loadNative } from '../host/native.ts';
import { TtrpcServer } from '../ttrpc/server.ts';
import { Timeline } from '../vm/timeline.ts';
import type { ShimFlags } from './args.ts';
import { podMaker } from './create-task.ts';
import { EventPublisher } from './event-publisher.ts';
import { eventRoute } from './forward-event.ts';
import { IdleExit, idleMs } from './idle-exit.ts';
import { Pod } from './pod.ts';
import { SANDBOX_SERVICE, sandboxService } from './sandbox-service.ts';
import { TaskEvents } from './task-events.ts';
import { TASK_SERVICES, taskService } from './task-service.ts';

/** containerd waits 3 s for Shutdown; events that are still undelivered then are lost with us. */
const DRAIN_MS = 2_500;
/** containerd closes its connections right after Shutdown; somebody else's, such as vmctl's, does not keep us. */
const HANG_UP_MS = 500;

/** What `start` has found for us. */
export interface ServePlace {
  /** The socket's listening descriptor; ours from now on. */
  readonly listener: number;
  readonly socketPath: string;
  /** The runtime's options as containerd gave them. */
  readonly options: AnyMessage | undefined;
}

/** The daemon: serves the task and the sandbox API until containerd says Shutdown or nobody wants it. */
export async function serve(flags: ShimFlags, place: ServePlace): Promise<void> {
  const { listener: fd, socketPath } = place;
  const { env } = process;
  const host = new LinuxHost();
  const log = textLogger(logFifo('log'), { debug: flags.debug, fields: { runtime: 'io.containerd.vm.v2' } });
  const timeline = new Timeline();
  timeline.mark('start-called', Date.now() - process.uptime() * 1000);

  const events = new EventPublisher(
    eventRoute(host, {
      namespace: flags.namespace,
      ttrpcAddress: env['TTRPC_ADDRESS'] ?? '',
      grpcAddress: flags.address,
      publishBinary: flags.publishBinary,
    }),
    log,
  );
  const idle = new IdleExit(() => shutdown('nobody wanted this shim'), idleMs(env));
  const pod = new Pod({
    make: podMaker({
      host,
      native: loadNative(),
      env,
      log,
      timeline,
      namespace: flags.namespace,
      shimSocket: socketPath,
      home: process.cwd(),
      startOptions: place.options,
    }),
    events: new TaskEvents(events),
    log,
    onBusy: () => idle.cancel(),
    onEmpty: () => idle.arm(),
  });
  const server = new TtrpcServer();
  const served = { pod, shutdown: () => shutdown('containerd asked') };
  const service = taskService(served);
  for (const name of TASK_SERVICES) server.addService(name, service);
  server.addService(SANDBOX_SERVICE, sandboxService(served));

  let ending = false;
  const shutdown = (why: string): void => {
    if (ending) return;
    ending = true;
    // First of all: a `start` that comes now must not adopt a shim that is about to go.
    host.remove(socketPath);
    pod.close();
    log.debug(`shim ends: ${why}`);
    void end(server, events).finally(() => process.exit(0));
  };

  // Whoever stops this process must not stop a guest: it ends with its last task, or by SIGKILL.
  const onTerminate = (signal: string): void => {
    if (pod.empty) shutdown(`it got ${signal}`);
    else log.warn(`${signal} is not followed while a VM runs here; stop its task instead`);
  };
  process.on('SIGTERM', onTerminate);
  process.on('SIGINT', onTerminate);
  // Whatever goes wrong in here, the guest is not to blame: say it and go on serving.
  process.on('uncaughtException', (error) =>
    log.error('uncaught exception', { error: describeError(error), stack: error.stack }),
  );
  process.on('unhandledRejection', (error) =>
    log.error('unhandled rejection', { error: describeError(error) }),
  );

  const listener = createServer();
  server.serve(listener);
  const { promise: listening, resolve } = Promise.withResolvers<undefined>();
  listener.listen({ fd }, () => resolve(undefined));
  await listening;
  idle.arm();
  timeline.mark('shim-ready');
}

/** Lets what was promised reach containerd: events in the queue, then responses in the sockets. */
async function end(server: TtrpcServer, events: EventPublisher): Promise<void> {
  await events.drained(AbortSignal.timeout(DRAIN_MS));
  await server.clientsGone(AbortSignal.timeout(HANG_UP_MS));
  await server.close();
}
