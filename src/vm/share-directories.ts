import type { Config } from '../core/config.ts';
import { VmError } from '../core/errors.ts';
import type { SharedDirectory } from '../core/shared-directory.ts';
import type { Cgroup } from '../host/cgroup-plan.ts';
import { connectedSocket } from '../host/connected-socket.ts';
import type { Host, OwnedFd, ProcessExit } from '../host/host.ts';
import { readIdentity } from '../host/process-identity.ts';
import { openFlags } from '../host/open-flags.ts';
import { ownFd } from '../host/owned-fd.ts';
import type { SharedFdRole } from '../qemu/plan-fds.ts';
import { QemuLog } from '../qemu/qemu-log.ts';
import type { MachineDeps, MachineRequest } from './machine-request.ts';
import { KEY_VARIABLE } from './marked-process.ts';
import type { VmNames } from './names.ts';
import { planVirtiofsd } from './plan-virtiofsd.ts';
import type { Recorder, SharedRecord } from './record.ts';
import type { SharedDirectories, SharedFacts } from './shared-directories.ts';
import { describeEnd, TOGETHER_MS, type WatchedServer, watchServers, within } from './watch-servers.ts';

const { O_PATH, O_DIRECTORY } = openFlags;
const UNSHARE = '/usr/bin/unshare';
/** Debian 13 and Fedora; Debian 12, where it is part of QEMU; Arch. */
const PLACES = ['/usr/libexec/virtiofsd', '/usr/lib/qemu/virtiofsd', '/usr/lib/virtiofsd'];

/** A running virtiofsd. */
interface Server extends WatchedServer {
  readonly directory: SharedDirectory;
  readonly connection: OwnedFd;
  readonly ended: Promise<ProcessExit>;
  readonly record: SharedRecord;
}

/**
 * Starts a virtiofsd for every shared directory of the VM, in the VM's cgroup, which must exist and be recorded: clean-up
 * ends them by it. Without a QEMU that is connected they end by themselves. Each is in the record before it serves anybody, and
 * nothing of it is ours but a file, so that it outlives us with its QEMU.
 * @throws VmError naming the volume.
 */
export async function shareDirectories(
  deps: MachineDeps,
  { spec, config }: MachineRequest,
  names: VmNames,
  cgroup: Cgroup,
  recorder: Recorder,
  signal: AbortSignal,
): Promise<SharedDirectories> {
  const program = findProgram(deps.host, config);
  using stack = new DisposableStack();
  const servers: Server[] = [];
  for (const [index, directory] of spec.shared.entries()) {
    const place = { program, cgroup, names, index, oomScore: spec.oomScoreAdj };
    const server = await startServer(deps, directory, place, signal);
    stack.use(server.connection);
    servers.push(server);
  }
  recorder.update({ shared: servers.map(({ record }) => record) });
  const open = stack.move();
  let lost = (): readonly string[] => [];
  return {
    fds: new Map(
      servers.map(({ connection }, index): [SharedFdRole, number] => [`shared-${index}`, connection.fd]),
    ),
    facts: servers.map(({ directory }) => facts(directory)),
    explain: (error) => explain(servers, error),
    watch: (qemu) => {
      lost = watchServers(deps.log, spec.id, servers, qemu);
    },
    lost: () => lost(),
    [Symbol.dispose]: () => open.dispose(),
  };
}

function findProgram(host: Host, { virtiofsd }: Config): string {
  const places = virtiofsd === undefined ? PLACES : [virtiofsd];
  const found = places.find((path) => host.inspect(path) !== undefined);
  if (found !== undefined) return found;
  throw new VmError(
    'FailedPrecondition',
    `the pod shares directories with its guest, but there is no virtiofsd at ${places.join(', ')}; install it on this node (on Debian the package virtiofsd), or name it in the configuration`,
  );
}

interface ServerPlace {
  readonly program: string;
  readonly cgroup: Cgroup;
  readonly names: VmNames;
  readonly index: number;
  readonly oomScore: number | undefined;
}

async function startServer(
  { host, native }: MachineDeps,
  directory: SharedDirectory,
  { program, cgroup, names, index, oomScore }: ServerPlace,
  signal: AbortSignal,
): Promise<Server> {
  using source = openDirectory(host, directory);
  const base = `${names.runDir}/shared-${index}`;
  const socket = `${base}.sock`;
  host.makeDir(base, 0o700);
  using listener = ownFd(native.listenUnix(socket, 1));
  const { log, fd } = QemuLog.create(host, `${base}.log`);
  using logFile = fd;
  const { pid, exited } = host.spawn({
    file: UNSHARE,
    args: planVirtiofsd(directory, {
      program,
      cgroupDirs: cgroup.dirs.map(({ dir }) => dir),
      mountPoint: base,
      oomScore,
    }),
    env: { LC_ALL: 'C', PATH: '/usr/sbin:/usr/bin:/sbin:/bin', [KEY_VARIABLE]: names.key },
    cwd: '/',
    uid: 0,
    gid: 0,
    network: 'empty',
    fds: [null, logFile.fd, logFile.fd, listener.fd, source.fd],
  });
  const record = {
    // One that has ended already is told of below.
    server: { pid, startTime: readIdentity(host, pid)?.startTime ?? 0 },
    source: host.inspectFd(source.fd).identity,
    logStart: log.start,
  };
  const connection = await connectedSocket(socket, signal);
  // The one connection there is to be.
  host.remove(socket);
  return { directory, volume: directory.mount.destination, connection, log, ended: exited, record };
}

/** Whoever made the volume's path is trusted, what is in the volume is not: the path is the node's and kubelet's. */
function openDirectory(host: Host, { mount }: SharedDirectory): OwnedFd {
  const kind = host.inspect(mount.source)?.kind;
  if (kind === 'directory') return host.open(mount.source, O_PATH | O_DIRECTORY);
  throw new VmError(
    'InvalidArgument',
    `the volume at "${mount.destination}" is to be shared, but is ${kind === undefined ? 'missing on the node' : `a ${kind}`}; only directories can be`,
  );
}

function facts({ tag, mount, access }: SharedDirectory): SharedFacts {
  return { tag, volume: mount.destination, path: mount.source, readOnly: access === 'ro' };
}

/** A virtiofsd that gives up is why QEMU does; QEMU itself only knows of a closed connection. */
async function explain(servers: readonly Server[], error: unknown): Promise<unknown> {
  for (const server of servers) {
    const exit = await within(server.ended, TOGETHER_MS);
    if (exit === undefined || !failed(exit)) continue;
    return new VmError('FailedPrecondition', `${describeEnd(server)}; see its documentation`, {
      cause: error,
    });
  }
  return error;
}

function failed(exit: ProcessExit): boolean {
  return exit.kind === 'signaled' || exit.code !== 0;
}
