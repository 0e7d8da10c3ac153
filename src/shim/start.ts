import { describeError, VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { LinuxHost } from '../host/linux-host.ts';
import { errnoName } from '../host/linux-errno.ts';
import { loadNative, type Native } from '../host/native.ts';
import { readStdin, writeStdout } from '../host/standard-streams.ts';
import type { ShimFlags } from './args.ts';
import { lockSocketDirectory } from './dead-socket.ts';
import { daemonEnvironment } from './daemon-environment.ts';
import { loadConfig } from '../vm/load-config.ts';
import { DEFAULT_SOCKET_ROOT, shimGroup, shimSocketPath } from './socket-address.ts';
import { socketAnswers } from './socket-probe.ts';
import { parseStartInput } from './start-input.ts';
import { startAnswer } from './start-output.ts';

const LISTEN_BACKLOG = 128;

/**
 * The `start` action: finds or makes the socket of the container's group, starts the daemon that serves it, writes the
 * address for containerd into the bundle (our working directory) and prints it. The socket is bound here and inherited
 * by the daemon, so two concurrent starts of one pod cannot both win, and containerd may dial at once.
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
    if (listener !== undefined) {
      host.spawn({
        file: process.execPath,
        args: [process.argv[1] ?? '', ...daemonArgs(flags)],
        env: daemonEnvironment(env, {
          socketPath,
          ttrpcAddress: params?.ttrpcAddress,
          startedAt: performance.timeOrigin,
        }),
        cwd: process.cwd(),
        uid: process.getuid?.() ?? 0,
        gid: process.getgid?.() ?? 0,
        fds: [null, null, null, listener],
        network: 'inherit',
      });
    }
  } catch (error) {
    if (listener !== undefined) host.remove(socketPath);
    throw error;
  }
  writeStdout(startAnswer(socketPath, input, env['MAX_SHIM_VERSION'], config.bootstrapVersion));
  // The daemon's socket is ours too until we end; nothing is left to wait for.
  process.exit(0);
}

/**
 * A listening descriptor, or undefined when a living shim of the same group has the socket already. The starts of a
 * pod take turns: else two of them could both find a dead shim's socket, and the second remove what the first has bound.
 */
async function bind(host: Host, path: string): Promise<number | undefined> {
  const native = loadNative();
  using _turn = lockSocketDirectory(host, native, path);
  const listener = listen(native, path);
  if (listener !== undefined || (await socketAnswers(path))) return listener;
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

function daemonArgs(flags: ShimFlags): string[] {
  const args = ['-namespace', flags.namespace, '-id', flags.id];
  if (flags.address !== '') args.push('-address', flags.address);
  if (flags.publishBinary !== '') args.push('-publish-binary', flags.publishBinary);
  return flags.debug ? [...args, '-debug'] : args;
}
