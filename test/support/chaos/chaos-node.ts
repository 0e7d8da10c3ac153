import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { vmNames } from '../../../src/vm/names.ts';
import { readRecord } from '../../../src/vm/record.ts';
import { type CriNode, criContainerd, criReady } from '../cri-containerd.ts';
import { WAYS } from '../cri-ways.ts';
import { processesOf } from '../leaks.ts';
import { patience } from '../machine-traits.ts';
import type { TestScope } from '../containerd.ts';
import { type ExitLedger, missingExits, NO_EXITS, noteDeafness, noteEvent } from './exit-ledger.ts';
import { ChaosAgent } from './chaos-agent.ts';
import type { ChaosVm } from './chaos-vm.ts';
import { ExitWatch } from './exit-watch.ts';
import { rebootNode, type StateAfterBoot } from './node-reboot.ts';
import { nodeVmctl } from './node-vmctl.ts';
import type { Power } from './power-model.ts';
import type { Random } from './random.ts';

const EXIT_EVENT_MS = 10_000;
/** More than a guest waits for its next shim on a busy machine. */
const ORPHAN_S = Math.round(patience(120));

/**
 * A node whose state and data directories are small file systems, with somebody who counts exit events. They are mounted in
 * the node's own mount namespace, so they are seen below `state` and `data` from outside.
 */
export class ChaosNode {
  readonly node: CriNode;
  readonly state: string;
  readonly data: string;
  readonly agent: ChaosAgent;
  /** Told what nobody has asked for. */
  onViolation: (text: string) => void = () => undefined;
  #exits: ExitLedger = NO_EXITS;
  #events = 0;
  #watch: ExitWatch | undefined;

  static async make(t: TestScope): Promise<ChaosNode> {
    const node = await criContainerd(t, {
      vmPlugins: WAYS['a TAP on the node’s bridge'].plugins,
      // Of a guest whose QEMU is stopped and whose shim is dead; a pod that is stuck longer than 300 s is a violation.
      shimConfig: `[orphan]\ndeadline = ${ORPHAN_S}\n`,
    });
    const { network, containerd } = node;
    for (const [name, size] of [
      ['vms', '16m'],
      ['data', '480m'],
    ] as const) {
      const path = join(containerd.directory, name);
      await network.run('mkdir', '-p', path);
      await network.run('mount', '-t', 'tmpfs', '-o', `size=${size},mode=711`, 'tmpfs', path);
      t.teardown(() => network.run('umount', '-l', path));
    }
    const crashed = (how: string): void => chaos.onViolation(`the agent ended by itself: ${how}`);
    const chaos: ChaosNode = new ChaosNode(node, await ChaosAgent.start(t, node, crashed));
    t.teardown(() => chaos.#watch?.[Symbol.asyncDispose]());
    await chaos.#listen();
    return chaos;
  }

  private constructor(node: CriNode, agent: ChaosAgent) {
    this.node = node;
    this.agent = agent;
    const inside = `${node.network.root}${node.containerd.directory}`;
    this.state = `${inside}/vms`;
    this.data = `${inside}/data`;
  }

  get exits(): ExitLedger {
    return this.#exits;
  }

  get exitEvents(): number {
    return this.#events;
  }

  note(change: (ledger: ExitLedger) => ExitLedger): void {
    this.#exits = change(this.#exits);
  }

  /** While `deed` runs containerd dies and comes back; whoever listens to it has to begin anew. */
  async withoutContainerd(deed: () => Promise<void>): Promise<void> {
    this.note(noteDeafness);
    await deed();
    await this.#watch?.[Symbol.asyncDispose]();
    await this.#listen();
    this.note(noteDeafness);
  }

  /** Everything of the node dies, its agent included, and it boots again. */
  powerCut(random: Random, state: StateAfterBoot): Promise<void> {
    return this.agent.without(() => this.withoutContainerd(() => rebootNode(this.node, random, state)));
  }

  /** SIGKILL and a new one, with `meanwhile` in between. */
  restartContainerd(meanwhile: () => void | Promise<void> = () => undefined): Promise<void> {
    const { containerd, cri } = this.node;
    return this.withoutContainerd(async () => {
      await containerd.kill();
      await meanwhile();
      await containerd.start();
      await criReady(cri);
    });
  }

  /** Exit events come a moment after CRI knows of the end. */
  async exitsTold(): Promise<void> {
    const deadline = Date.now() + EXIT_EVENT_MS;
    while (missingExits(this.#exits).length > 0 && Date.now() < deadline) await delay(50);
  }

  /** `vmctl` on the node; rejects when it fails. */
  vmctl(...args: string[]): Promise<string> {
    return nodeVmctl(this.node, ...args);
  }

  /** Pid of the QEMU of a VM, if it is known to run. */
  qemu({ pod }: ChaosVm): number | undefined {
    const { network, containerd } = this.node;
    const { record } = vmNames(join(containerd.directory, 'vms'), 'k8s.io', pod.container ?? '');
    const path = `${network.root}${record}`;
    return existsSync(path) ? readRecord(new LinuxHost(), path)?.qemu?.pid : undefined;
  }

  /** What the VM's shim says; undefined where there is none to say it, or while the VM is on its way. */
  async power({ pod }: ChaosVm): Promise<Power | undefined> {
    try {
      const status = JSON.parse(await this.vmctl('status', pod.container ?? '', '--json')) as object;
      const said = 'powerState' in status ? status.powerState : undefined;
      return said === 'on' || said === 'off' || said === 'paused' ? said : undefined;
    } catch {
      return undefined;
    }
  }

  /** Every QEMU that carries the mark of the VM, as text. */
  qemusOf({ pod }: ChaosVm): string[] {
    const { key } = vmNames(join(this.node.containerd.directory, 'vms'), 'k8s.io', pod.container ?? '');
    return processesOf(this.node.containerd.directory)
      .filter(({ pid, command }) => command.includes('qemu-system') && environment(pid).includes(key))
      .map(({ pid }) => `pid ${pid}`);
  }

  /** Pids of the shims of a pod, by the arguments that containerd gave them. */
  shims({ pod }: ChaosVm): number[] {
    return this.#processes((command) => pod.sandbox !== undefined && command.includes(`-id ${pod.sandbox} `));
  }

  /** Pids of the keepers of orphans. */
  keepers(): number[] {
    return this.#processes((command) => command.endsWith(' keep'));
  }

  /** What pods have left, and what VMs have left in the directories. */
  async left(): Promise<string[]> {
    const { directory } = this.node.containerd;
    const ours = ['vms', 'data'].map((name) => `mount ${directory}/${name}`);
    const names = [
      'vms/*/',
      'vms/cni/*',
      'vms/{kept,orphan}-*',
      'data/vms/*',
      'data/pods/*',
      'data/bases/*',
      'data/leases/*',
    ];
    const inside = join(this.state, '..');
    const files = globSync(names.map((name) => `${inside}/${name}`)).filter(
      (path) => !path.endsWith('/vms/cni'),
    );
    return [
      // Cgroups of `ctr` are other tests'.
      ...(await this.node.leaks(0)).filter(
        (text) => !ours.includes(text) && !/^cgroup .*\/default\//.test(text),
      ),
      ...files.map((path) => `file ${path.slice(inside.length + 1)}`),
    ];
  }

  async #listen(): Promise<void> {
    this.#watch = await ExitWatch.begin(this.node.containerd, (event) => {
      this.#events++;
      this.note((ledger) => noteEvent(ledger, event));
    });
  }

  #processes(wanted: (command: string) => boolean): number[] {
    return processesOf(this.node.containerd.directory)
      .filter(({ command }) => command.includes('shim.cjs') && wanted(command))
      .map(({ pid }) => pid);
  }
}

function environment(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1');
  } catch {
    return '';
  }
}

/** Sends a signal to a process; one that is gone already needs none. */
export function signal(pid: number | undefined, name: NodeJS.Signals): void {
  // A zombie cannot be told from a process by kill(2), which is fine.
  if (pid === undefined || pid <= 0) return;
  try {
    process.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
