import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { execa } from 'execa';
import { ExpectText } from './expect-text.ts';
import type { KubeServer } from './kube-server.ts';
import type { Teardown } from './temp-dir.ts';

const bin = join(import.meta.dirname, '../../bin');

export interface AgentSurroundings {
  readonly env: Readonly<Record<string, string>>;
  /** A command that becomes the agent. */
  readonly launcher?: readonly string[];
}

/** The installed agent, as a node runs it. Killed with the test. */
export class AgentProcess {
  readonly log: ExpectText;
  readonly #process: ChildProcess;
  readonly #closed: Promise<unknown>;

  constructor(
    t: Teardown,
    kube: KubeServer,
    { env, launcher = [] }: AgentSurroundings,
    ...options: string[]
  ) {
    const [file = '', ...args] = [
      ...[...launcher, join(bin, 'vm-node-agent'), '--node-name', 'node-1'],
      ...['--kubeconfig', kube.kubeconfig, '--listen', '127.0.0.1:0', ...options],
    ];
    const child = spawn(file, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process = child;
    this.#closed = once(child, 'close');
    this.log = new ExpectText(child.stderr);
    // A test that waits in vain leaves no other trace of why.
    child.stderr.pipe(process.stderr, { end: false });
    t.teardown(async () => {
      child.kill('SIGKILL');
      await this.#closed;
    });
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** A page it serves. */
  async page(path: string): Promise<string> {
    const [, address = ''] = await this.log.until(/http="?([\d.:]+)["\s]/);
    return await (await fetch(`http://${address}${path}`)).text();
  }

  /** Sends a signal. @returns its exit status and the signal that ended it. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<{ exitCode: number | null; signal: string | null }> {
    this.#process.kill(signal);
    await this.#closed;
    const { exitCode, signalCode } = this.#process;
    return { exitCode, signal: signalCode };
  }
}

/** `kubectl vm …`, as kubectl runs its plugin. */
export async function kubectlVm(
  kube: KubeServer,
  ...args: string[]
): Promise<{ status: number | undefined; stdout: string; stderr: string }> {
  const { exitCode, stdout, stderr } = await execa(join(bin, 'kubectl-vm'), args, {
    env: { KUBECONFIG: kube.kubeconfig },
    reject: false,
    stdin: 'ignore',
  });
  return { status: exitCode, stdout, stderr };
}
