import type { Config } from '../core/config.ts';
import { VmError } from '../core/errors.ts';
import type { SharedDirectory } from '../core/shared-directory.ts';
import type { Cgroup } from '../host/cgroup-plan.ts';
import { connectedSocket } from '../host/connected-socket.ts';
import type { Host, OwnedFd, ProcessExit } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';
import { ownFd } from '../host/owned-fd.ts';
import type { SharedFdRole } from '../qemu/plan-fds.ts';
import { QemuLog } from '../qemu/qemu-log.ts';
import type { MachineDeps, MachineRequest } from './machine-request.ts';
import { KEY_VARIABLE } from './marked-process.ts';
import type { VmNames } from './names.ts';
import { planVirtiofsd } from './plan-virtiofsd.ts';
import type { SharedDirectories, SharedFacts } from './shared-directories.ts';

const { O_PATH, O_DIRECTORY } = openFlags;
const UNSHARE = '/usr/bin/unshare';
/** Debian 13 and Fedora; Debian 12, where it is part of QEMU; Arch. */
const PLACES = ['/usr/libexec/virtiofsd', '/usr/lib/qemu/virtiofsd', '/usr/lib/virtiofsd'];
/** virtiofsd and QEMU end within moments of each other, in either order. */
const TOGETHER_MS = 2000;

/** A running virtiofsd. */
interface Server {
  readonly directory: SharedDirectory;
  readonly connection: OwnedFd;
  readonly log: QemuLog;
  readonly exited: Promise<ProcessExit>;
}

/**
 * Starts a virtiofsd for every shared directory of the VM, in the VM's cgroup, which must exist and be recorded: clean-up
 * ends them by it. Without a QEMU that is connected they end by themselves.
 * @throws VmError naming the volume.
 */
export async function shareDirectories(
  deps: MachineDeps,
  { spec, config }: MachineRequest,
  names: VmNames,
  cgroup: Cgroup,
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
  const open = stack.move();
  const lost: string[] = [];
  return {
    fds: new Map(
      servers.map(({ connection }, index): [SharedFdRole, number] => [`shared-${index}`, connection.fd]),
    ),
    facts: servers.map(({ directory }) => facts(directory)),
    explain: (error) => explain(servers, error),
    watch: ({ exited }) => {
      for (const server of servers)
        void tellOfLoss(server, exited, (what) => {
          lost.push(what);
          deps.log.error(what, { id: spec.id });
        });
    },
    lost: () => lost,
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
  const { exited } = host.spawn({
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
  const connection = await connectedSocket(socket, signal);
  // The one connection there is to be.
  host.remove(socket);
  return { directory, connection, log, exited };
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
    const exit = await within(server.exited, TOGETHER_MS);
    if (exit === undefined || !failed(exit)) continue;
    return new VmError('FailedPrecondition', `${describeEnd(server)}; see its documentation`, {
      cause: error,
    });
  }
  return error;
}

async function tellOfLoss(
  server: Server,
  qemuExited: Promise<unknown>,
  tell: (what: string) => void,
): Promise<void> {
  await server.exited;
  const qemu = await within(
    qemuExited.then(() => true),
    TOGETHER_MS,
  );
  if (qemu === undefined)
    tell(`the guest has lost a shared directory until it is started again: ${describeEnd(server)}`);
}

function failed(exit: ProcessExit): boolean {
  return exit.kind === 'signaled' || exit.code !== 0;
}

function describeEnd({ directory: { mount }, log }: Server): string {
  const said = log.tail(4).join('; ');
  return `virtiofsd for the volume at "${mount.destination}" ended: ${said === '' ? 'it said nothing' : said}`;
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
