import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import type { SpaceLimit } from './space-limit.ts';

/** Programs that read untrusted files, and what they may do at most. */
export interface ConfinedProgram {
  /** Absolute path. */
  readonly file: string;
  readonly args: readonly string[];
  /** Descriptors that become 0, 1, and 3 and on; 2 is taken to explain a failure. `null` is /dev/null. */
  readonly fds: {
    readonly stdin: number | null;
    readonly stdout: number | null;
    readonly more: readonly number[];
  };
  /** Of any file that it writes; CPU time follows from it. */
  readonly limit: SpaceLimit;
}

/** Bytes of address space: what OpenStack gives qemu-img for a look, doubled for a conversion's buffers. */
const ADDRESS_SPACE = 2 * 2 ** 30;
/** Above the users of VMs (vm/names.ts) and of containers: nobody else is one of these. */
const UID_BASE = 2_110_000_000;
const SIGKILL = 9;
const SIGXFSZ = 25;
/** Slower than any of these programs on any machine. */
const BYTES_PER_CPU_SECOND = 2 * 2 ** 20;
const CPU_SECONDS = 60;
const SAID = 2048;

/**
 * Runs a program that reads what an image's maker wrote: under a user of its own, without network, with bounded memory,
 * CPU time and output, and ended with us (pdeathsig). It has our descriptors instead of paths. Resolves when it ended
 * well. Sources: prlimit(1), setpriv(1).
 * @throws VmError InvalidArgument with what it said, when it failed; ResourceExhausted when it wrote too much; Canceled.
 */
export async function runConfined(
  host: Host,
  { file, args, fds, limit }: ConfinedProgram,
  {
    what,
    tempDir,
    signal,
  }: { readonly what: string; readonly tempDir: string; readonly signal: AbortSignal },
): Promise<void> {
  const failIfCanceled = (): void => {
    if (signal.aborted) throw VmError.from(signal.reason);
  };
  failIfCanceled();
  using said = host.temporaryFile(tempDir, 0o600);
  const user = UID_BASE + process.pid;
  const cpuSeconds = CPU_SECONDS + Math.ceil(limit.bytes / BYTES_PER_CPU_SECOND);
  const limits = [
    `--as=${ADDRESS_SPACE}`,
    `--cpu=${cpuSeconds}`,
    `--fsize=${limit.bytes}`,
    '--core=0',
    '--nofile=64',
  ];
  const child = host.spawn({
    file: '/usr/bin/setpriv',
    args: ['--pdeathsig', 'KILL', '--no-new-privs', '--', '/usr/bin/prlimit', ...limits, '--', file, ...args],
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
    cwd: '/',
    uid: user,
    gid: user,
    fds: [fds.stdin, fds.stdout, said.fd, ...fds.more],
    network: 'empty',
  });
  // Not reaped before `exited` resolves, so the pid is still this child's.
  let ended = false;
  const kill = (): void => {
    if (!ended) process.kill(child.pid, SIGKILL);
  };
  signal.addEventListener('abort', kill, { once: true });
  // A detached child does not keep our event loop alive.
  const alive = setInterval(() => undefined, 2 ** 30);
  const exit = await child.exited;
  ended = true;
  clearInterval(alive);
  signal.removeEventListener('abort', kill);
  failIfCanceled();
  if (exit.kind === 'exited' && exit.code === 0) return;
  const size = host.inspectFd(said.fd).size;
  const text = host.readBytes(said.fd, Math.max(0, size - SAID), SAID).toString('latin1');
  const last = text.trim().split('\n').at(-1) ?? '';
  // Some are ended by the signal, some ignore it and get EFBIG.
  const tooLarge = exit.kind === 'signaled' && exit.signal === SIGXFSZ;
  if (tooLarge || last.includes('File too large')) throw limit.exceeded();
  if (last.includes('No space left on device')) throw limit.full();
  const how = exit.kind === 'exited' ? `status ${exit.code}` : `signal ${exit.signal}`;
  throw new VmError(
    'InvalidArgument',
    `${what} failed: ${JSON.stringify(last === '' ? how : last)}; the file is damaged or not what it looks like`,
  );
}
