import { globSync, readFileSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createCgroup, removeCgroup } from '../../src/host/cgroup.ts';
import { detectCgroupLayout } from '../../src/host/cgroup-layout.ts';
import { type Cgroup, planCgroup } from '../../src/host/cgroup-plan.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { patience } from './machine-traits.ts';

/** What kubelet makes for pods to be in. */
export interface PodCgroupTree extends AsyncDisposable {
  /** Makes a pod's cgroup, as kubelet does before it runs the pod. @returns its path, as CRI is told. */
  add(uid: string): string;
  /** Cgroups of containers that are still there; a pod's own is kubelet's to remove. */
  left(): string[];
  /** As when the node boots again, after all processes are gone. */
  reboot(): Promise<void>;
}

/** The cgroup that stands for kubelet's `/kubepods`, with a cgroup for each pod below it, in every hierarchy. */
export class PodCgroups implements PodCgroupTree {
  readonly #host = new LinuxHost();
  readonly #root: Cgroup;

  /** @param name of a cgroup that nothing else uses. */
  constructor(name: string) {
    this.#root = this.#plan(`/${name}`);
    createCgroup(this.#host, this.#root);
  }

  add(uid: string): string {
    const cgroup = this.#plan(`${this.#root.path}/pod${uid}`);
    createCgroup(this.#host, cgroup);
    return cgroup.path;
  }

  left(): string[] {
    return this.#root.dirs.flatMap(({ dir }) => globSync(`${dir}/pod*/*/`)).map((path) => `cgroup ${path}`);
  }

  async reboot(): Promise<void> {
    for (const dir of this.#root.dirs.flatMap(({ dir }) => globSync(`${dir}/pod*/*`))) {
      if (!statSync(dir).isDirectory()) continue;
      // One that was killed is in its cgroup until somebody has reaped it.
      while (readFileSync(join(dir, 'cgroup.procs'), 'utf8') !== '') await delay(5);
      rmdirSync(dir);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await removeCgroup(this.#host, this.#root, AbortSignal.timeout(patience(60_000)));
  }

  #plan(path: string): Cgroup {
    return planCgroup(detectCgroupLayout(this.#host), path, '');
  }
}
