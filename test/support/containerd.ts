import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  globSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { type ContainerdSettings, type CriSettings, containerdConfig } from './containerd-config.ts';
import { type ContainerdRelease, type ContainerdSource, containerdRelease } from './containerd-release.ts';
import { leaks } from './leaks.ts';
import { ACCEL } from './machine-traits.ts';
import { tempDir } from './temp-dir.ts';
import { untilFile } from './until-file.ts';
import { type VmImage, vmctl, vmImage } from './vm-image.ts';

/** What of a tap test the harness needs. */
export interface TestScope {
  teardown(undo: () => unknown): void;
  /** False once something of the test has failed. */
  passing?(): boolean;
}

export interface ContainerdOptions {
  /** Lines for the shim's configuration; its directories are private in any case. */
  readonly shimConfig?: string;
  /** What the machine is good for by default. */
  readonly accel?: 'tcg' | 'auto';
  /** Variables for containerd, and so for the shim. */
  readonly env?: Readonly<Record<string, string>>;
  /** containerd's own PATH. Our launcher must do without any. */
  readonly path?: string;
  /** This machine's own by default. */
  readonly source?: ContainerdSource;
  /** What containerd's CRI plugin, which is off without it, is told; for the directory that everything lies below. */
  readonly cri?: (directory: string) => CriSettings;
  /** A command that runs containerd, such as one that enters a network namespace and becomes what follows. */
  readonly launcher?: readonly string[];
  /** Looks for what else may be left, one text each. */
  readonly left?: () => string[];
  /** Cgroups in which nothing of containerd's may be left; that of its `ctr run`s by default. */
  readonly cgroupParents?: readonly string[];
}

const repository = join(import.meta.dirname, '../..');
export const shimPath = join(repository, 'bin/containerd-shim-vm-v2');

/**
 * A private containerd with root, state, sockets and our shim's directories below one temporary directory.
 * When the test ends it asserts that no process, mount, cgroup, socket, fifo or record is left, then ends containerd.
 */
export async function privateContainerd(t: TestScope, options: ContainerdOptions = {}): Promise<Containerd> {
  const release = await containerdRelease(options.source ?? 'host');
  const containerd = new Containerd(tempDir(t), release, options);
  t.teardown(async () => {
    const left = await leaks(containerd.directory, options.cgroupParents, options.left);
    await containerd.stop();
    containerd.removeCgroups();
    // What went wrong once may take a week to do so again.
    if (t.passing?.() === false) process.stderr.write(`${containerd.log().slice(-20_000)}\n`);
    // tap takes no assertion in a teardown, but what it throws fails the test.
    if (left.length > 0)
      throw new Error(`left behind:\n${left.join('\n')}\n${containerd.log().slice(-4000)}`);
  });
  await containerd.start();
  return containerd;
}

/** What a command printed. */
export interface CommandOutput {
  readonly stdout: string;
  readonly stderr: string;
  readonly all: string;
}

export class Containerd {
  readonly directory: string;
  readonly address: string;
  #release: ContainerdRelease;
  readonly #options: ContainerdOptions;
  readonly #settings: ContainerdSettings;
  #process: ChildProcess | undefined;
  #image: Promise<VmImage> | undefined;

  constructor(directory: string, release: ContainerdRelease, options: ContainerdOptions) {
    this.directory = directory;
    this.address = join(directory, 'c.sock');
    this.#release = release;
    this.#options = options;
    this.#settings = { directory, address: this.address, cri: options.cri?.(directory) };
    this.#configure();
    writeFileSync(
      join(directory, 'vmshim.toml'),
      `accel = "${options.accel ?? ACCEL}"\nstate_dir = "${directory}/vms"\ndata_dir = "${directory}/data"\n${options.shimConfig ?? ''}`,
    );
  }

  get release(): ContainerdRelease {
    return this.#release;
  }

  /** From its next start on it is of another release, with the same directories. */
  async upgrade(source: ContainerdSource): Promise<void> {
    this.#release = await containerdRelease(source);
    this.#configure();
  }

  #configure(): void {
    writeFileSync(join(this.directory, 'containerd.toml'), containerdConfig(this.#release, this.#settings));
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  get logFile(): string {
    return join(this.directory, 'containerd.log');
  }

  /** containerd's log with the shims' lines in it. */
  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  /** Starts containerd and waits until it says that it has booted. */
  async start(): Promise<void> {
    const command = [
      join(this.release.directory, 'containerd'),
      '--config',
      join(this.directory, 'containerd.toml'),
    ];
    const [file = '', ...args] = [...(this.#options.launcher ?? []), ...command];
    const child = spawn(file, args, { env: this.environment(), stdio: ['ignore', 'ignore', 'pipe'] });
    this.#process = child;
    const booted = Promise.withResolvers<undefined>();
    // Its last lines come after its end, when the file may be gone with the test.
    const log = openSync(this.logFile, 'a');
    createInterface({ input: child.stderr })
      .on('line', (line) => {
        writeSync(log, `${line}\n`);
        if (line.includes('containerd successfully booted')) booted.resolve(undefined);
      })
      .once('close', () => closeSync(log));
    child.once('exit', () => booted.reject(new Error(`containerd ended:\n${this.log().slice(-2000)}`)));
    await booted.promise;
  }

  /** SIGKILL, as a crash would. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** Resolves when a line of its log, or of its shims', matches, which come later than what they tell of. */
  async logged(pattern: RegExp): Promise<void> {
    await untilFile(this.logFile, pattern);
  }

  /** The cgroup of its `ctr run`s, in every hierarchy; what is left in it has been told of. */
  removeCgroups(): void {
    for (const path of globSync(
      ['/sys/fs/cgroup/*', '/sys/fs/cgroup'].map((top) => `${top}${this.#cgroup}`),
    )) {
      try {
        rmdirSync(path);
      } catch (error) {
        process.stderr.write(`${String(error)}\n`);
      }
    }
  }

  environment(): NodeJS.ProcessEnv {
    return {
      PATH: this.#options.path ?? `${repository}/bin:${this.release.directory}:/usr/sbin:/usr/bin:/sbin:/bin`,
      VMSHIM_CONFIG: join(this.directory, 'vmshim.toml'),
      SHIM_SOCKET_DIR: join(this.directory, 's'),
      ...this.#options.env,
    };
  }

  /** The `ctr` of its release. */
  get ctrPath(): string {
    return join(this.release.directory, 'ctr');
  }

  /** `ctr` against this containerd; rejects on a non-zero exit. */
  ctr(...args: string[]): Promise<CommandOutput> {
    return execa(this.ctrPath, ['--address', this.address, ...args], { all: true, stdin: 'ignore' });
  }

  vmctl(...args: string[]): Promise<CommandOutput> {
    return execa(vmctl, args, { all: true, env: this.environment(), extendEnv: true, stdin: 'ignore' });
  }

  /** Imports an archive once; the test guest's by default. */
  async image(): Promise<VmImage> {
    this.#image ??= (async () => {
      const image = await vmImage();
      await this.ctr('images', 'import', image.archive);
      return image;
    })();
    return await this.#image;
  }

  /** Arguments of `ctr run` up to and including the image and the id. */
  async runArguments(id: string, options: RunOptions = {}): Promise<string[]> {
    const image = options.image ?? (await this.image()).name;
    const boot =
      options.diskBoot === true || options.image !== undefined ? {} : (await this.image()).kernelBoot;
    const annotations = { 'vmshim.io/memory': '128Mi', ...boot, ...options.annotations };
    return [
      'run',
      '--fifo-dir',
      join(this.directory, 'fifo'),
      '--cgroup',
      `${this.#cgroup}/${id}`,
      '--runtime',
      options.runtime ?? 'io.containerd.vm.v2',
      ...Object.entries(annotations).flatMap(([key, value]) => ['--annotation', `${key}=${value}`]),
      ...(options.flags ?? []),
      image,
      id,
    ];
  }

  /** Of this containerd alone: other test files, which run at the same time, have VMs of the same ids. */
  get #cgroup(): string {
    return `/${basename(this.directory)}`;
  }

  /** Bundle directory of a task. */
  bundle(id: string, namespace = 'default'): string {
    return join(this.directory, 'state/io.containerd.runtime.v2.task', namespace, id);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
    rmSync(this.address, { force: true });
  }
}

export interface RunOptions {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
  readonly image?: string;
  /** Boot the image's disk through its boot loader instead of its kernel directly. */
  readonly diskBoot?: boolean;
  readonly runtime?: string;
}
