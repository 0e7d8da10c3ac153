import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Containerd } from '../containerd.ts';
import type { ExitEvent } from './exit-ledger.ts';

const NAMESPACE = 'k8s.io';

/** Exit events of pods, as `ctr events` prints them, for as long as containerd lives. */
export class ExitWatch implements AsyncDisposable {
  readonly #process: ChildProcess;

  /** Resolves when events come. */
  static async begin(containerd: Containerd, tell: (event: ExitEvent) => void): Promise<ExitWatch> {
    const child = spawn(containerd.ctrPath, ['--address', containerd.address, '-n', NAMESPACE, 'events'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let lines = 0;
    createInterface({ input: child.stdout }).on('line', (line) => {
      lines++;
      const event = parseExit(line);
      if (event !== undefined) tell(event);
    });
    // ctr does not say when it has subscribed, so something is made to happen until it is seen.
    for (let n = 0; lines === 0; n++) await containerd.ctr('namespaces', 'label', NAMESPACE, `probe=${n}`);
    return new ExitWatch(child);
  }

  private constructor(child: ChildProcess) {
    this.#process = child;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await ended;
  }
}

/** TIME NAMESPACE TOPIC JSON; fields that are zero are left out. */
export function parseExit(line: string): ExitEvent | undefined {
  const json = / \/tasks\/exit (\{.*\})$/.exec(line)?.[1];
  if (json === undefined) return undefined;
  const { container_id, pid, exit_status } = JSON.parse(json) as {
    readonly container_id: string;
    readonly pid?: number;
    readonly exit_status?: number;
  };
  return { container: container_id, pid: pid ?? 0, status: exit_status ?? 0 };
}
