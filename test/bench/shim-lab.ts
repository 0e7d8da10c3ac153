import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TtrpcServer } from '../../src/ttrpc/server.ts';
import { TaskClient } from '../support/task-client.ts';
import { type Teardown, tempDir } from '../support/temp-dir.ts';
import { type BundleOptions, guestRoot, writeBundle } from '../support/test-bundle.ts';

export type ShimKind = 'vm' | 'runc';
export const SHIM_KINDS: readonly ShimKind[] = ['vm', 'runc'];

const PROGRAMS: Readonly<Record<ShimKind, string>> = {
  vm: join(import.meta.dirname, '../../bin/containerd-shim-vm-v2'),
  runc: '/usr/bin/containerd-shim-runc-v2',
};

export type VmOptions = Pick<BundleOptions, 'annotations' | 'cmdline' | 'mounts'>;

/** A shim that was started as containerd starts it, and our connection to it. */
export interface BenchShim {
  readonly kind: ShimKind;
  readonly id: string;
  readonly bundle: string;
  readonly pid: number;
  readonly task: TaskClient;
  /** Milliseconds from exec to the end of `start` and its output. */
  readonly startMs: number;
  /** Milliseconds from exec to the answer of the first call on a new connection. */
  readonly firstRpcMs: number;
}

/** Plays containerd 1.6 and 1.7 against both shims alike: the same bundle, arguments, environment and event socket. */
export class ShimLab {
  readonly #directory: string;
  readonly #vmRoot: string;
  readonly #runcRoot: string;
  readonly #logs = new Map<string, number>();
  #count = 0;

  static async make(scope: Teardown): Promise<ShimLab> {
    const directory = tempDir(scope);
    // QEMU runs as a user of its own.
    chmodSync(directory, 0o755);
    const events = new TtrpcServer();
    events.addService('containerd.services.events.ttrpc.v1.Events', {
      Forward: { kind: 'unary', handle: () => new Uint8Array() },
    });
    const listener = createServer();
    events.serve(listener);
    listener.listen(join(directory, 'c.sock.ttrpc'));
    await once(listener, 'listening');
    scope.teardown(async () => {
      listener.close();
      await events.close();
    });
    const vmRoot = await guestRoot(join(directory, 'guest'));
    const lab = new ShimLab(directory, vmRoot, busyboxRoot(join(directory, 'busybox')));
    scope.teardown(() => removeCgroups(lab.#namespace));
    return lab;
  }

  private constructor(directory: string, vmRoot: string, runcRoot: string) {
    this.#directory = directory;
    this.#vmRoot = vmRoot;
    this.#runcRoot = runcRoot;
    const dirs = `state_dir = "${directory}/vms"\ndata_dir = "${directory}/data"\n`;
    writeFileSync(join(directory, 'vmshim.toml'), `accel = "tcg"\n${dirs}`);
  }

  get #namespace(): string {
    return basename(this.#directory);
  }

  /** `linux.cgroupsPath` of a shim's task. */
  cgroupOf(id: string): string {
    return `/${this.#namespace}/${id}`;
  }

  /** A bundle and a running shim for it. `options` are for a VM. */
  async start(kind: ShimKind, options: VmOptions = {}): Promise<BenchShim> {
    const id = `${kind}-${++this.#count}`;
    const bundle = join(this.#directory, 'b', id);
    await this.#makeBundle(kind, id, bundle, options);
    // containerd reads the shim's log, so it is open at both ends.
    this.#logs.set(id, openSync(join(bundle, 'log'), constants.O_RDWR | constants.O_NONBLOCK));

    const began = performance.now();
    const address = await this.#run(kind, bundle, [...this.#flags(id), 'start']);
    const startMs = performance.now() - began;
    const task = await TaskClient.connect(address.replace('unix://', ''));
    const { shimPid: pid } = await task.connect({ id });
    return { kind, id, bundle, pid, task, startMs, firstRpcMs: performance.now() - began };
  }

  /** Creates the shim's task: a VM whose guest has not begun, or a container whose process has not. @returns its process. */
  async create({ id, bundle, task }: BenchShim, stdout?: string): Promise<number> {
    return (await task.create({ id, bundle, ...(stdout !== undefined && { stdout }) })).pid;
  }

  /** What containerd does at the end, with everything the shim holds. */
  async end(shim: BenchShim): Promise<void> {
    const { id, task, bundle, pid, kind } = shim;
    await task.kill({ id, signal: 9, all: true }).catch(() => undefined);
    await task.wait({ id }).catch(() => undefined);
    await task.delete({ id }).catch(() => undefined);
    await task.shutdown({ id, now: true }).catch(() => undefined);
    await task.ttrpc.closed;
    // runc's wants files that only a Create has made.
    const deleted = this.#run(kind, bundle, [...this.#flags(id), '-bundle', bundle, 'delete']);
    await (kind === 'vm' ? deleted : deleted.catch(() => undefined));
    closeSync(this.#logs.get(id) ?? -1);
    this.#logs.delete(id);
    // The kernel tells only its parent; the next measurement must not run beside its end.
    while (isAlive(pid)) await delay(1);
    rmSync(bundle, { recursive: true });
  }

  #flags(id: string): string[] {
    const address = join(this.#directory, 'c.sock');
    return [
      '-namespace',
      this.#namespace,
      '-address',
      address,
      '-publish-binary',
      '/usr/bin/containerd',
      '-id',
      id,
    ];
  }

  async #run(kind: ShimKind, cwd: string, args: readonly string[]): Promise<string> {
    const child = spawn(PROGRAMS[kind], args, {
      cwd,
      env: {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        TTRPC_ADDRESS: join(this.#directory, 'c.sock.ttrpc'),
        GRPC_ADDRESS: join(this.#directory, 'c.sock'),
        NAMESPACE: this.#namespace,
        GOMAXPROCS: '2',
        SHIM_SOCKET_DIR: join(this.#directory, 's'),
        VMSHIM_CONFIG: join(this.#directory, 'vmshim.toml'),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (output += chunk.toString('latin1')));
    }
    const [status] = (await once(child, 'close')) as [number | null];
    if (status !== 0) throw new Error(`${PROGRAMS[kind]} ended with status ${status ?? -1}: ${output}`);
    return output.trim();
  }

  async #makeBundle(kind: ShimKind, id: string, bundle: string, options: VmOptions): Promise<void> {
    const root = kind === 'vm' ? this.#vmRoot : this.#runcRoot;
    const cgroupsPath = this.cgroupOf(id);
    await writeBundle(bundle, { ...options, root, cgroupsPath });
    if (kind === 'vm') return;
    const spec = {
      ociVersion: '1.0.2',
      process: {
        user: { uid: 0, gid: 0 },
        args: ['/bin/busybox', 'sleep', '3600'],
        cwd: '/',
        env: ['PATH=/bin'],
      },
      root: { path: this.#runcRoot },
      mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
      linux: { namespaces: ['pid', 'mount', 'ipc', 'uts', 'network'].map((type) => ({ type })), cgroupsPath },
    };
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
  }
}

/** A root file system with nothing but a static busybox. */
export function busyboxRoot(directory: string): string {
  for (const name of ['bin', 'proc', 'dev', 'sys', 'etc', 'tmp'])
    mkdirSync(join(directory, name), { recursive: true });
  copyFileSync('/bin/busybox', join(directory, 'bin/busybox'));
  chmodSync(join(directory, 'bin/busybox'), 0o755);
  return directory;
}

function removeCgroups(namespace: string): void {
  const found = execFileSync('find', ['/sys/fs/cgroup', '-depth', '-type', 'd', '-name', namespace], {
    encoding: 'utf8',
  });
  for (const path of found.split('\n').filter((line) => line !== '')) rmdirSync(path);
}

function isAlive(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1') !== '';
  } catch {
    return false;
  }
}
