import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import type { TestScope } from '../containerd.ts';
import { patience } from '../machine-traits.ts';
import type { Action, Scene } from './action.ts';
import { actions } from './chaos-actions.ts';
import { ChaosNode } from './chaos-node.ts';
import type { ChaosReport } from './chaos-report.ts';
import { type ChaosCourt, ChaosVm } from './chaos-vm.ts';
import { judgeExits, noteEnd, noteStart } from './exit-ledger.ts';
import { StuckError } from './kept-pod.ts';
import { effectOf } from './power-model.ts';
import { Random } from './random.ts';
import { noteAnswer, NO_REQUESTS, parseAnswer, type RequestLedger } from './request-ledger.ts';

/** How long things may take to go away after the last pod was removed. */
const LEFT_MS = patience(10_000);
/** What of containerd's log is kept of the time before a violation, in characters. */
const EVIDENCE = 400_000;

export interface ChaosPlan {
  readonly seed: number;
  readonly seconds: number;
  readonly vms: number;
  /** How many steps, where that is to be what ends it. */
  readonly steps?: number;
  /** What may be done; everything without it. */
  readonly only?: readonly ActionName[];
}

export type ActionName = keyof typeof actions;
const TABLE: Readonly<Record<ActionName, Action>> = actions;
const NAMES = Object.keys(actions) as ActionName[];
/** Steps for which an operator leaves a VM off or paused. */
const OFF_STEPS = 2;

/** What is done in one step, decided by the seed alone. */
interface Step {
  readonly name: ActionName;
  readonly vm: number;
  /** What comes in the middle of it, and so many milliseconds after it began. */
  readonly besides: { readonly name: ActionName; readonly vm: number; readonly after: number } | undefined;
}

/**
 * All actions in one order, then all in another, for ever; every third with something else in the middle of it, where among the
 * names there is something that may come then.
 * @throws RangeError where there is no action or no VM.
 */
export function planSteps(random: Random, vms: number, names = NAMES): Generator<Step, never> {
  if (names.length === 0) throw new RangeError('a run of chaos needs at least one action; "only" names none');
  if (vms < 1) throw new RangeError(`a run of chaos needs at least one VM; "vms" is ${vms}`);
  return steps(random, vms, names);
}

function* steps(random: Random, vms: number, names: readonly ActionName[]): Generator<Step, never> {
  const besides = names.filter((name) => TABLE[name].besides === true);
  for (;;) {
    for (const name of random.shuffle(names)) {
      const vm = random.below(vms);
      const { containerd = false, unknown = false } = TABLE[name];
      const fit = besides.filter(
        (other) =>
          other !== name &&
          !(containerd && TABLE[other].containerd === true) &&
          !(unknown && TABLE[other].collects === true),
      );
      if (fit.length === 0) {
        yield { name, vm, besides: undefined };
        continue;
      }
      const other = { name: random.pick(fit), vm: random.below(vms), after: random.below(1500) };
      yield { name, vm, besides: random.below(3) === 0 ? other : undefined };
    }
  }
}

/**
 * Does one thing after another to a node with VMs whose guests write all the time, and judges after each what must hold. What
 * is found is in the report; a run that cannot go on ends early.
 */
export async function runChaos(
  t: TestScope,
  plan: ChaosPlan,
  say: (line: string) => void,
): Promise<ChaosReport> {
  const run = new ChaosRun(await ChaosNode.make(t), plan, say);
  return run.run();
}

class ChaosRun {
  readonly #chaos: ChaosNode;
  readonly #plan: ChaosPlan;
  readonly #say: (line: string) => void;
  readonly #steps: Generator<Step, never>;
  /** Apart from that of the steps: how often it is asked depends on what is found. */
  readonly #random: Random;
  readonly #vms: readonly ChaosVm[];
  /** Steps for which a VM was not on. */
  readonly #offFor = new Map<ChaosVm, number>();
  readonly #began = performance.now();
  readonly #findings: string[] = [];
  readonly #counts: Record<string, number> = {};
  /** What annotations have said of power requests. */
  #requests: RequestLedger = NO_REQUESTS;
  #doing = 'the first boots';
  #retries = 0;
  #evidence = 0;

  constructor(chaos: ChaosNode, plan: ChaosPlan, say: (line: string) => void) {
    this.#chaos = chaos;
    this.#plan = plan;
    this.#steps = planSteps(new Random(plan.seed), plan.vms, [...(plan.only ?? NAMES)]);
    this.#random = new Random(plan.seed ^ 0x5ca1e);
    const names = Array.from({ length: plan.vms }, (_, n) => `chaos-${n}`);
    this.#vms = names.map((name, n) => new ChaosVm(chaos, name, plan.seed + n, this.#court()));
    this.#say = (line) => say(`${this.#seconds().toFixed(1)} s: ${line}`);
    chaos.onViolation = (text) => this.#violation(text);
    chaos.agent.kube.onChange.push(({ metadata: { name, uid, annotations } }) => {
      const answer = parseAnswer(annotations['vmshim.io/power-status']);
      if (answer === undefined) return;
      const { ledger, violations } = noteAnswer(this.#requests, uid, answer);
      this.#requests = ledger;
      for (const text of violations) this.#violation(`${name}: ${text}`);
    });
  }

  async run(): Promise<ChaosReport> {
    let left: string[] = [];
    try {
      await this.#settleAll();
      for (let n = 0; n < (this.#plan.steps ?? Infinity) && this.#seconds() < this.#plan.seconds; n++) {
        await this.#take(this.#steps.next().value);
        await this.#switchOn(OFF_STEPS);
      }
    } catch (error) {
      if (!(error instanceof StuckError)) throw error;
      this.#violation(error.message);
    }
    const seconds = Math.round(this.#seconds());
    left = await this.#end();
    return await this.#report(seconds, left);
  }

  async #take({ name, vm, besides }: Step): Promise<void> {
    this.#doing = name;
    if (besides !== undefined) this.#doing += `, and ${besides.name} ${besides.after} ms later`;
    this.#say(`${this.#doing} (${this.#vm(vm).pod.name})`);
    const harmless = besides === undefined || TABLE[besides.name].agentOnly === true;
    await Promise.all([
      this.#act(name, vm, harmless),
      besides !== undefined &&
        delay(besides.after).then(() => this.#act(besides.name, besides.vm, TABLE[name].agentOnly === true)),
    ]);
    await this.#settleAll();
  }

  /** An operator switches on what has been off, and lets go on what has been paused, for more than so many steps. */
  async #switchOn(patience: number): Promise<void> {
    for (const [index, vm] of this.#vms.entries()) {
      const [power = 'on'] = vm.powers;
      const steps = power === 'on' ? 0 : (this.#offFor.get(vm) ?? 0) + 1;
      this.#offFor.set(vm, steps);
      if (power === 'on' || steps <= patience) continue;
      const name = power === 'off' ? 'vmctl start' : 'vmctl resume';
      await this.#take({ name, vm: index, besides: undefined });
    }
  }

  /** @param alone whether nothing else can make it fail. */
  async #act(name: ActionName, index: number, alone: boolean): Promise<void> {
    const action = TABLE[name];
    const vm = this.#vm(index);
    this.#counts[name] = (this.#counts[name] ?? 0) + 1;
    const before = vm.powers;
    // What fails may or may not have happened.
    const done = this.#vms.map((one) =>
      one === vm
        ? one.begin(action.power ?? effectOf(action.boots), action.starts ?? false)
        : one.begin(effectOf(action.others ?? 'never'), false),
    );
    const scene: Scene = {
      chaos: this.#chaos,
      vm,
      before,
      random: new Random(this.#random.below(2 ** 31)),
      vms: this.#vms,
      alone,
    };
    try {
      await action.run(scene);
      for (const end of done) end(alone);
    } catch (error) {
      if (error instanceof StuckError) throw error;
      if (alone) this.#violation(`${name} failed: ${String(error)}`);
      else this.#say(`  ${name}: ${String(error)}`);
    }
  }

  async #settleAll(): Promise<void> {
    await Promise.all(this.#vms.map((vm) => vm.settle()));
    await this.#chaos.exitsTold();
  }

  /** Boots all once more to see what is on their disks, and removes them. @returns what is left of them. */
  async #end(): Promise<string[]> {
    this.#doing = 'the end';
    try {
      if (this.#findings.length === 0) {
        await this.#switchOn(0);
        await Promise.all(this.#vms.map((_, index) => this.#act('delete and create', index, true)));
        await this.#settleAll();
      }
      await Promise.all(this.#vms.map(({ pod }) => pod.remove()));
    } catch (error) {
      if (!(error instanceof StuckError)) throw error;
      this.#violation(error.message);
    }
    for (const vm of this.#vms) vm.forget();
    await this.#chaos.agent.end();
    await this.#chaos.exitsTold();
    for (const text of judgeExits(this.#chaos.exits)) this.#violation(text);
    const deadline = Date.now() + LEFT_MS;
    for (;;) {
      await this.#chaos.vmctl('gc', '--grace', '0s');
      const left = await this.#chaos.left();
      if (left.length === 0 || Date.now() > deadline) return left;
      await delay(200);
    }
  }

  async #report(seconds: number, left: readonly string[]): Promise<ChaosReport> {
    const sum = (of: (vm: ChaosVm) => number): number => this.#vms.reduce((all, vm) => all + of(vm), 0);
    const log = this.#chaos.node.containerd.logFile;
    const { stdout } = await execa('grep', ['-c', 'took over the running guest', log], { reject: false });
    const all = Object.entries(this.#counts) as [ActionName, number][];
    return {
      seed: this.#plan.seed,
      seconds,
      actions: all.reduce((count, [, times]) => count + times, 0),
      faults: all.reduce((count, [name, times]) => count + (TABLE[name].fault ? times : 0), 0),
      bytes_verified: sum(({ verified }) => verified),
      violations: this.#findings.length,
      leftovers: left.length,
      boots: sum(({ boots }) => boots),
      adoptions: Number(stdout),
      exit_events: this.#chaos.exitEvents,
      power_requests: this.#requests.size,
      retries: this.#retries,
      by_action: this.#counts,
      findings: [...this.#findings, ...left.map((text) => `left: ${text}`)],
    };
  }

  #court(): ChaosCourt {
    return {
      violation: (text) => this.#violation(text),
      exits: {
        started: (container) => this.#chaos.note((ledger) => noteStart(ledger, container)),
        ended: (container) => this.#chaos.note((ledger) => noteEnd(ledger, container)),
      },
      retry: (pod, error) => {
        this.#retries++;
        this.#say(`  ${pod}: ${String(error).slice(0, 600)}`);
      },
    };
  }

  #violation(text: string): void {
    this.#findings.push(`${text} (during ${this.#doing})`);
    const path = join(tmpdir(), `vmshim-chaos-${this.#plan.seed}-${++this.#evidence}.log`);
    const logs = [this.#chaos.node.containerd.log(), this.#chaos.agent.log];
    writeFileSync(path, logs.map((log) => log.slice(-EVIDENCE)).join('\n'));
    this.#say(`VIOLATION: ${text}; the logs of containerd and of the agent until now are in ${path}`);
  }

  #vm(index: number): ChaosVm {
    const vm = this.#vms[index];
    if (vm === undefined) throw new RangeError(`there is no VM ${index}`);
    return vm;
  }

  #seconds(): number {
    return (performance.now() - this.#began) / 1000;
  }
}
