import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Containerd, RunOptions } from './containerd.ts';
import { ExpectText } from './expect-text.ts';

/** A `ctr run` in the foreground: its console on pipes of ours. */
export interface CtrRun {
  readonly process: ChildProcess;
  /** The guest's console. */
  readonly console: ExpectText;
  readonly stderr: ExpectText;
  /** Types a line at the guest's console. */
  type(line: string): void;
  /** Exit status of `ctr`, which is the task's. */
  readonly exited: Promise<number>;
}

/** Starts `ctr run --rm` and returns at once. */
export async function ctrRun(containerd: Containerd, id: string, options: RunOptions = {}): Promise<CtrRun> {
  const args = await containerd.runArguments(id, { ...options, flags: ['--rm', ...(options.flags ?? [])] });
  const child = spawn(containerd.ctrPath, ['--address', containerd.address, ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const exited = once(child, 'close').then(([code, signal]: unknown[]) =>
    typeof code === 'number' ? code : 128 + Number(signal),
  );
  return {
    process: child,
    console: new ExpectText(child.stdout),
    stderr: new ExpectText(child.stderr),
    type: (line) => void child.stdin.write(`${line}\n`),
    exited,
  };
}

/** Waits until the test guest is up; rejects with what `ctr` says instead. */
export async function untilReady(run: CtrRun): Promise<CtrRun> {
  await run.console.until('vmguest: ready').catch((cause: unknown) => {
    throw new Error(run.stderr.text, { cause });
  });
  return run;
}
