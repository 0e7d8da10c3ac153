import { execFileSync } from 'node:child_process';
import { globSync } from 'node:fs';
import type { PodCgroupTree } from './cri-cgroup.ts';

const ROOT = 'kubepods.slice';

/** The slices that kubelet's systemd driver has systemd make for pods, on a node where systemd is the init. */
export class PodSlices implements PodCgroupTree {
  constructor() {
    systemctl('start', ROOT);
  }

  add(uid: string): string {
    const unit = podSlice(uid);
    systemctl('start', unit);
    return `/${ROOT}/${unit}`;
  }

  /** Cgroups of containers, and units of theirs that systemd still knows. */
  left(): string[] {
    const cgroups = globSync(`/sys/fs/cgroup/${ROOT}/*/*/`).map((path) => `cgroup ${path}`);
    const units = systemctl('list-units', '--all', '--plain', '--no-legend', 'cri-containerd-*');
    return [...cgroups, ...units.split('\n').filter((line) => line !== '')];
  }

  reboot(): Promise<void> {
    throw new Error('a node of systemd’s is not booted again');
  }

  [Symbol.asyncDispose](): Promise<void> {
    systemctl('stop', ROOT);
    return Promise.resolve();
  }
}

/** systemd takes a dash as a step of the tree, so kubelet has none in a pod's UID. */
export function podSlice(uid: string): string {
  return `kubepods-pod${uid.replaceAll('-', '_')}.slice`;
}

/** Fails with systemctl's own words. */
export function systemctl(...args: readonly string[]): string {
  return execFileSync('systemctl', args, { encoding: 'utf8' });
}
