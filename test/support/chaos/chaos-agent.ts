import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { loadNative } from '../../../src/host/native.ts';
import { inNetworkNamespace } from '../../../src/host/network-namespace.ts';
import type { TestScope } from '../containerd.ts';
import type { CriNode } from '../cri-containerd.ts';
import { KubeServer } from '../kube-server.ts';
import { patience } from '../machine-traits.ts';

const PROGRAM = join(import.meta.dirname, '../../../bin/vm-node-agent');
/** Longer than an agent takes to start and to collect garbage on a busy machine. */
const COLLECTS_MS = patience(120_000);
const PAUSE_MS = 100;

/** The installed node agent in the node's namespaces, started again whenever it was killed, and the API server it asks. */
export class ChaosAgent {
  readonly kube: KubeServer;
  readonly #node: CriNode;
  readonly #log: string;
  /** Told when it ends without having been killed by us. */
  readonly #crashed: (how: string) => void;
  #child: ChildProcess | undefined;
  /** How many keep it down. */
  #down = 0;

  static async start(t: TestScope, node: CriNode, crashed: (how: string) => void): Promise<ChaosAgent> {
    const { netns } = node.network;
    const native = loadNative();
    const fd = inNetworkNamespace(native, netns, () => native.listenTcp(64));
    const agent = new ChaosAgent(node, await KubeServer.start(t, { fd }), crashed);
    t.teardown(() => agent.end());
    agent.#start();
    return agent;
  }

  private constructor(node: CriNode, kube: KubeServer, crashed: (how: string) => void) {
    this.#node = node;
    this.kube = kube;
    this.#crashed = crashed;
    this.#log = join(node.containerd.directory, 'agent.log');
  }

  /** What all agents have said. */
  get log(): string {
    return readFileSync(this.#log, 'utf8');
  }

  /** SIGKILL, and a new one after `meanwhile`. */
  async without(meanwhile: () => Promise<void>): Promise<void> {
    this.#down += 1;
    try {
      await this.#stop('SIGKILL');
      await meanwhile();
    } finally {
      this.#down -= 1;
      this.#start();
    }
  }

  /** A new agent, and resolves when an agent has collected garbage to its end. */
  async collects(): Promise<void> {
    const deadline = Date.now() + COLLECTS_MS;
    await this.without(() => Promise.resolve());
    for (;;) {
      const runs = await this.#collections();
      if (runs === 'done') return;
      // It would try again in ten minutes.
      if (runs === 'not done') await this.without(() => Promise.resolve());
      if (Date.now() > deadline) throw new Error('the agent collects no garbage');
      await delay(PAUSE_MS);
    }
  }

  /** For good. */
  async end(): Promise<void> {
    this.#down += 1;
    await this.#stop('SIGTERM');
  }

  #start(): void {
    if (this.#down > 0 || this.#child !== undefined) return;
    const { containerd, network } = this.#node;
    const [file = '', ...args] = [
      ...network.enter,
      ...[PROGRAM, '--node-name', 'node-1', '--kubeconfig', this.kube.kubeconfig],
      ...['--listen', '127.0.0.1:0', '--containerd', containerd.address, '--gc-grace', '0s'],
    ];
    const log = openSync(this.#log, 'a');
    const child = spawn(file, args, {
      env: { ...process.env, VMSHIM_CONFIG: join(containerd.directory, 'vmshim.toml') },
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#child = child;
    child.once('exit', (status, signal) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      this.#crashed(`status ${status ?? ''}${signal ?? ''}`);
    });
  }

  async #stop(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  /** What became of the collections of the agent that runs. */
  async #collections(): Promise<'done' | 'not done' | undefined> {
    const [, address] = [...this.log.matchAll(/http="?([\d.:]+)["\s]/g)].at(-1) ?? [];
    const url = `http://${address ?? ''}/metrics`;
    // Nobody is there for a moment, or only the last one's address.
    const metrics = await this.#node.network.run('busybox', 'wget', '-qO-', url).catch(() => '');
    const [, result] = /^vmshim_agent_gc_runs_total\{result="([a-z ]+)"\} [1-9]/m.exec(metrics) ?? [];
    return result === 'done' || result === 'not done' ? result : undefined;
  }
}
