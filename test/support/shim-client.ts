import { spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  globSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { containerd, type google, runtimeoptions } from '#wire';
import { EventService } from './event-service.ts';
import { leaks } from './leaks.ts';
import { TaskClient } from './task-client.ts';
import { TaskIo } from './task-io.ts';
import { type Teardown, tempDir } from './temp-dir.ts';
import { type BundleOptions, guestRoot, writeBundle } from './test-bundle.ts';

const shimPath = join(import.meta.dirname, '../../bin/containerd-shim-vm-v2');

export interface StartOptions {
  /** Bytes on stdin; without any stdin is /dev/null. */
  readonly stdin?: Uint8Array;
  /** Beside what containerd 1.7 and later set; `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Flags beside those that containerd gives. */
  readonly flags?: readonly string[];
  /** Descriptors of ours that the program gets as 3, 4 …, as if we had forgotten to mark them close-on-exec. */
  readonly descriptors?: readonly number[];
}

/** A program that has ended. `output` is stdout and stderr in one, as containerd's CombinedOutput reads them. */
export interface Ended {
  readonly status: number;
  readonly output: Buffer;
}

/** One shim daemon with containerd's connection to it. */
export interface RunningShim {
  readonly id: string;
  readonly bundle: string;
  readonly socketPath: string;
  readonly pid: number;
  readonly task: TaskClient;
}

/**
 * Plays containerd against our shim without containerd between: makes bundles, runs `start` and `delete` with exactly
 * its arguments, environment and descriptors, dials the socket and serves the event service. When the test ends it
 * asserts that nothing is left.
 */
export class ShimClient {
  readonly directory: string;
  readonly namespace: string;
  readonly events: EventService;
  /** containerd's gRPC address. Only part of names: nobody listens there. */
  readonly grpcAddress: string;
  readonly #root: string;
  readonly #clients = new Set<TaskClient>();
  readonly #ios = new Set<TaskIo>();

  /** @param shimConfig lines for the shim's configuration file. */
  static async make(t: Teardown, options: { shimConfig?: string } = {}): Promise<ShimClient> {
    const directory = tempDir(t);
    // QEMU and wrappers of it run as a user of their own.
    chmodSync(directory, 0o755);
    const root = await guestRoot(join(directory, 'image'));
    const events = await EventService.start(t, join(directory, 'c.sock.ttrpc'));
    const shims = new ShimClient(directory, root, events);
    shims.writeConfig('vmshim.toml', options.shimConfig);
    t.teardown(() => shims.#tearDown());
    return shims;
  }

  private constructor(directory: string, root: string, events: EventService) {
    this.directory = directory;
    this.namespace = basename(directory);
    this.grpcAddress = join(directory, 'c.sock');
    this.#root = root;
    this.events = events;
  }

  /** A configuration file of the shim in this client's directories; returns its path. */
  writeConfig(name: string, lines = ''): string {
    const path = join(this.directory, name);
    writeFileSync(
      path,
      `accel = "tcg"\nstate_dir = "${this.directory}/vms"\ndata_dir = "${this.directory}/data"\n${lines}\n`,
    );
    return path;
  }

  /**
   * A configuration whose QEMU is a shell script. It still tells its version, as that is asked first.
   * @param script what it does when it is to run a machine; `$@` are QEMU's arguments.
   */
  configWithQemu(name: string, script: string): string {
    const program = join(this.directory, `${name}.sh`);
    const lines = [
      '#!/bin/sh',
      'case $1 in -version | -machine) exec /usr/bin/qemu-system-x86_64 "$@" ;; esac',
      script,
    ];
    writeFileSync(program, `${lines.join('\n')}\n`, { mode: 0o755 });
    return this.writeConfig(`${name}.toml`, `qemu = "${program}"`);
  }

  /** The stand-in of stand-in-qemu.ts. */
  configWithStandIn(name: string, ...deed: string[]): string {
    const program = join(import.meta.dirname, 'stand-in-qemu.ts');
    return this.configWithQemu(name, `exec ${process.execPath} ${program} ${deed.join(' ')} "$@"`);
  }

  /** `CreateTaskRequest.options` that name a configuration file. */
  options(configPath: string): google.protobuf.Any.$Properties {
    const value = runtimeoptions.v1.Options.encode({ configPath }).finish();
    return { typeUrl: 'runtimeoptions.v1.Options', value };
  }

  async makeBundle(id: string, options: BundleOptions = {}): Promise<string> {
    const bundle = join(this.directory, 'b', id);
    await writeBundle(bundle, { root: this.#root, cgroupsPath: `/${this.namespace}/${id}`, ...options });
    return bundle;
  }

  /** Runs the `start` action in an existing bundle. Resolves when its output has ended, as CombinedOutput returns. */
  start(id: string, options: StartOptions = {}): Promise<Ended> {
    return this.#run(this.bundle(id), [...this.#flags(id), ...(options.flags ?? []), 'start'], options);
  }

  /** Runs the `delete` action and decodes its answer. */
  async delete(id: string): Promise<containerd.task.DeleteResponse> {
    const bundle = this.bundle(id);
    const { status, output } = await this.#run(bundle, [...this.#flags(id), '-bundle', bundle, 'delete'], {});
    if (status !== 0) throw new Error(`delete ended with ${status}: ${output.toString()}`);
    return containerd.task.DeleteResponse.decode(output);
  }

  /** Runs the shim with any command line. */
  run(args: readonly string[], options: StartOptions = {}): Promise<Ended> {
    return this.#run(this.directory, args, options);
  }

  /** A bundle, its shim, and a connection to it. */
  async shim(
    id: string,
    options: BundleOptions & StartOptions & { version?: 2 | 3 } = {},
  ): Promise<RunningShim> {
    const bundle = await this.makeBundle(id, options);
    const { status, output } = await this.start(id, options);
    if (status !== 0) throw new Error(`start ended with ${status}: ${output.toString()}`);
    const socketPath = readFileSync(join(bundle, 'address'), 'utf8').replace('unix://', '');
    const task = await this.connect(socketPath, options.version);
    const { shimPid: pid } = await task.connect({ id });
    return { id, bundle, socketPath, pid, task };
  }

  async connect(socketPath: string, version: 2 | 3 = 2): Promise<TaskClient> {
    const client = await TaskClient.connect(socketPath, version);
    this.#clients.add(client);
    return client;
  }

  /** Fifos for a task; closed by the teardown at the latest. */
  io(id: string, options: { terminal?: boolean } = {}): TaskIo {
    const io = new TaskIo(join(this.directory, 'fifo', id), options);
    this.#ios.add(io);
    return io;
  }

  bundle(id: string): string {
    return join(this.directory, 'b', id);
  }

  /** Pids of the daemons that run for this client. */
  daemons(): number[] {
    return readdirSync('/proc')
      .map(Number)
      .filter((pid) => pid > 0 && isShim(pid, this.namespace));
  }

  /** What containerd does when a task has been deleted: Shutdown, hang up, `delete`, remove the bundle. */
  async end(shim: RunningShim): Promise<void> {
    await shim.task.shutdown({ id: shim.id }).catch(() => undefined);
    await shim.task[Symbol.asyncDispose]();
    this.#clients.delete(shim.task);
    await this.delete(shim.id);
    rmSync(shim.bundle, { recursive: true });
  }

  /** SIGKILL to the task if it lives, Delete, and `end`. */
  async remove(shim: RunningShim): Promise<void> {
    await shim.task.kill({ id: shim.id, signal: 9 });
    await shim.task.wait({ id: shim.id });
    await shim.task.delete({ id: shim.id });
    await this.end(shim);
  }

  #flags(id: string): string[] {
    return [
      '-namespace',
      this.namespace,
      '-address',
      this.grpcAddress,
      '-publish-binary',
      '/usr/bin/containerd',
      '-id',
      id,
    ];
  }

  #environment(changes: Readonly<Record<string, string | undefined>> = {}): Record<string, string> {
    const env: Record<string, string | undefined> = {
      PATH: '',
      TTRPC_ADDRESS: this.events.path,
      GRPC_ADDRESS: this.grpcAddress,
      NAMESPACE: this.namespace,
      MAX_SHIM_VERSION: '2',
      GOMAXPROCS: '2',
      // Any of these that reached Node would break it or print into the answer.
      NODE_OPTIONS: '--require=/nonexistent/hook.js',
      NODE_EXTRA_CA_CERTS: '/nonexistent/ca.pem',
      SHIM_SOCKET_DIR: join(this.directory, 's'),
      VMSHIM_CONFIG: join(this.directory, 'vmshim.toml'),
      ...changes,
    };
    return Object.fromEntries(
      Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
  }

  async #run(
    cwd: string,
    args: readonly string[],
    { stdin, env, descriptors = [] }: StartOptions,
  ): Promise<Ended> {
    // The shell only joins stderr to stdout, then it is the shim.
    const child = spawn('/bin/sh', ['-c', 'exec "$0" "$@" 2>&1', shimPath, ...args], {
      cwd,
      env: this.#environment(env),
      detached: true,
      stdio: [stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'inherit', ...descriptors],
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(stdin);
    const closed = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)));
    return { output: await buffer(child.stdout!), status: await closed };
  }

  async #tearDown(): Promise<void> {
    for (const io of this.#ios) await io[Symbol.asyncDispose]();
    for (const client of this.#clients) await client[Symbol.asyncDispose]();
    const left = await leaks(this.directory, [this.namespace]);
    for (const pid of this.daemons()) process.kill(pid, 'SIGKILL');
    for (const path of globSync([`/sys/fs/cgroup/*/${this.namespace}`, `/sys/fs/cgroup/${this.namespace}`]))
      rmdirSync(path);
    // tap takes no assertion in a teardown, but what it throws fails the test.
    if (left.length > 0) throw new Error(`left behind:\n${left.join('\n')}`);
  }
}

/** Resolves when a process that is not our child has ended; the kernel tells only parents. */
export async function processEnded(pid: number): Promise<void> {
  while (holdsFiles(pid)) await delay(5);
}

/**
 * A process that is ending loses its memory, and its arguments with it, before its files; and its first thread may be a
 * zombie while others still hold them. Field 20 of proc_pid_stat(5) counts the threads.
 */
function holdsFiles(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return !/^[ZX]$/.test(fields[0] ?? '') || Number(fields[20 - 3]) > 1;
  } catch {
    return false;
  }
}

/** Arguments of a process separated by blanks; empty for one that has ended, also when nobody has reaped it yet. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

/** Collects what a shim writes to its log fifo, as containerd does: opened for both, so that it never ends. */
export function openLog(bundle: string): Disposable & { readonly fd: number } {
  const fd = openSync(join(bundle, 'log'), constants.O_RDWR | constants.O_NONBLOCK);
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

const isShim = (pid: number, namespace: string): boolean =>
  commandLine(pid).includes(`-namespace ${namespace}`);
