import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { type Containerd, privateContainerd } from '../support/containerd.ts';
import { tempDir } from '../support/temp-dir.ts';
import { BenchScope } from './bench-scope.ts';
import { BUSYBOX_IMAGE, busyboxImage } from './busybox-image.ts';
import { RawQemu } from './raw-qemu.ts';
import { Samples } from './samples.ts';

/** Milliseconds to the first byte that the guest or container says. */
export interface FirstByte {
  readonly vm: Samples;
  readonly raw: Samples;
  readonly runc: Samples;
}

/** The kernel speaks as soon as it is unpacked, so that little of the guest's own boot, and its spread, is in the times. */
const EARLY = { 'vmshim.io/cmdline': 'console=ttyS0 earlyprintk=ttyS0,115200 panic=-1' };

/** `ctr run` of a VM, its QEMU started alone, `ctr run` of a runc container: in turns, each gone before the next. */
export async function measureFirstByte(rounds: number): Promise<FirstByte> {
  await using scope = new BenchScope();
  const containerd = await privateContainerd(scope);
  await containerd.ctr('images', 'import', busyboxImage(tempDir(scope)));
  const vmRun = async (id: string): Promise<Run> =>
    new Run(containerd, id, await containerd.runArguments(id, { flags: ['--rm'], annotations: EARLY }));
  const runcRun = (id: string): Run => {
    const flags = ['--rm', '--fifo-dir', `${containerd.directory}/fifo`];
    return new Run(containerd, id, ['run', ...flags, BUSYBOX_IMAGE, id, '/bin/busybox', 'echo', 'x']);
  };

  const raw = await rawQemu(scope, containerd, await vmRun('original'));
  const times: FirstByte = { vm: new Samples(), raw: new Samples(), runc: new Samples() };
  for (let round = 0; round <= rounds; round++) {
    const vm = await vmRun(`vm-${round}`);
    const vmTime = await vm.firstByte();
    await vm.kill();
    const rawTime = await raw.firstByte();
    const runc = runcRun(`runc-${round}`);
    const runcTime = await runc.firstByte();
    await runc.exited;
    // The first round only warms caches.
    if (round === 0) continue;
    times.vm.add(vmTime);
    times.raw.add(rawTime);
    times.runc.add(runcTime);
  }
  return times;
}

async function rawQemu(scope: BenchScope, containerd: Containerd, run: Run): Promise<RawQemu> {
  await run.firstByte();
  const { stdout } = await containerd.ctr('tasks', 'ls');
  const pid = Number(new RegExp(`^${run.id} +(\\d+)`, 'm').exec(stdout)?.[1]);
  const { uid } = statSync(`/proc/${pid}`);
  const raw = await RawQemu.of(scope, { pid, uid, bundle: containerd.bundle(run.id), id: run.id });
  await run.kill();
  return raw;
}

/** A `ctr run` in the foreground. */
class Run {
  readonly id: string;
  readonly exited: Promise<unknown>;
  readonly #containerd: Containerd;
  readonly #began = performance.now();
  readonly #first: Promise<number>;

  constructor(containerd: Containerd, id: string, args: readonly string[]) {
    this.id = id;
    this.#containerd = containerd;
    const child = spawn('/usr/bin/ctr', ['--address', containerd.address, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.exited = once(child, 'close');
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    this.#first = new Promise((resolve, reject) => {
      child.stdout.once('data', () => resolve(performance.now() - this.#began));
      child.once('close', () => reject(new Error(`ctr run of ${id} ended without output: ${said}`)));
    });
  }

  /** Milliseconds from exec to the first byte. */
  firstByte(): Promise<number> {
    return this.#first;
  }

  async kill(): Promise<void> {
    await this.#containerd.ctr('tasks', 'kill', '--signal', 'SIGKILL', this.id);
    await this.exited;
  }
}
