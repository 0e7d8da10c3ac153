import { describeError, VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { LinuxHost } from '../host/linux-host.ts';
import { errnoName } from '../host/linux-errno.ts';
import { loadNative, type Native } from '../host/native.ts';
import { leaveCaller } from '../host/leave-caller.ts';
import { readStdin, writeStdout } from '../host/standard-streams.ts';
import type { ShimFlags } from './args.ts';
import { lockSocketDirectory } from './dead-socket.ts';
import { loadConfig } from '../vm/load-config.ts';
import { DEFAULT_SOCKET_ROOT, shimGroup, shimSocketPath } from './socket-address.ts';
import { parseStartInput } from './start-input.ts';
import { startAnswer } from './start-output.ts';

const LISTEN_BACKLOG = 128;
/** See bin/containerd-shim-vm-v2. */
const LAUNCHER_VARIABLES = [
  'NODE_NO_WARNINGS',
  'MALLOC_TRIM_THRESHOLD_',
  'MALLOC_MMAP_THRESHOLD_',
  'MALLOC_TOP_PAD_',
];

/**
 * The `start` action: finds or makes the socket of the container's group, writes its address for containerd into the
 * bundle (our working directory), prints it, and becomes the daemon that serves it. The launcher ends with the answer
 * and leaves us behind, which saves every pod the start of a second Node. The socket listens before the answer, so two
 * concurrent starts of one pod cannot both win, and containerd may dial at once.
 */
export async function start(flags: ShimFlags): Promise<void> {
  const host = new LinuxHost();
  const { env } = process;
  const input = parseStartInput(readStdin(), flags.id, flags.namespace);
  const params = input.kind === 'bootstrap' ? input.params : undefined;
  const options = params?.options ?? (input.kind === 'options' ? input.options : undefined);
  const config = loadConfig(host, env, options);

  const socketRoot = params?.socketDir ?? env['SHIM_SOCKET_DIR'] ?? DEFAULT_SOCKET_ROOT;
  const socketPath = shimSocketPath(
    socketRoot,
    flags.address,
    flags.namespace,
    shimGroup(readSpec(host), flags.id),
  );
  host.makeDir(socketRoot, 0o700);

  const listener = await bind(host, socketPath);
  try {
    // containerd 1.6 reads this file after a restart; later ones fall back to it.
    host.writeText('address', `unix://${socketPath}`);
    const caller = { input, bundle: process.cwd(), maxShimVersion: env['MAX_SHIM_VERSION'] };
    writeStdout(startAnswer(socketPath, caller, config.bootstrapVersion));
    // The shim that has the socket serves this container, too.
    if (listener === undefined) process.exit(0);
    leaveCaller(loadNative(), inheritedDescriptors(env));
    // What we start, such as a logger, gets containerd's environment, without the launcher's settings for this process.
    for (const name of LAUNCHER_VARIABLES) Reflect.deleteProperty(env, name);
    if (params !== undefined && params.ttrpcAddress !== '') env['TTRPC_ADDRESS'] = params.ttrpcAddress;
    const { serve } = await import('./serve.ts');
    await serve(flags, { listener, socketPath, options });
  } catch (error) {
    if (listener !== undefined) host.remove(socketPath);
    throw error;
  }
}

/**
 * A listening descriptor, or undefined when a living shim of the same group has the socket already. The starts of a
 * pod take turns: else two of them could both find a dead shim's socket, and the second remove what the first has bound.
 */
async function bind(host: Host, path: string): Promise<number | undefined> {
  const native = loadNative();
  using _turn = lockSocketDirectory(host, native, path);
  const listener = listen(native, path);
  if (listener !== undefined) return listener;
  // It loads node:net, which most starts do without.
  const { socketAnswers } = await import('./socket-probe.ts');
  if (await socketAnswers(path)) return undefined;
  // Left by a shim that was killed.
  host.remove(path);
  const second = listen(native, path);
  if (second !== undefined) return second;
  throw new VmError(
    'Unavailable',
    `the shim socket "${path}" is used by a program that is not a shim of ours`,
  );
}

/** Undefined when there is a socket already. */
function listen(native: Native, path: string): number | undefined {
  try {
    return native.listenUnix(path, LISTEN_BACKLOG);
  } catch (error) {
    if (errnoName(error) === 'EADDRINUSE') return undefined;
    throw new VmError('Internal', `cannot listen on the shim socket "${path}": ${describeError(error)}`, {
      cause: error,
    });
  }
}

/** What the launcher could not close for us, as it tells in a variable that is nobody else's business. */
function inheritedDescriptors(env: NodeJS.ProcessEnv): number[] {
  const list = (env['VMSHIM_INHERITED'] ?? '').split(' ').filter((word) => word !== '');
  delete env['VMSHIM_INHERITED'];
  return list.map(Number);
}

/** Sandbox bundles of containerd 2.x may have no config.json. */
function readSpec(host: Host): unknown {
  try {
    return JSON.parse(host.readText('config.json')) as unknown;
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return undefined;
    throw new VmError(
      'InvalidArgument',
      `the bundle's config.json is not readable JSON: ${describeError(error)}`,
      { cause: error },
    );
  }
}
