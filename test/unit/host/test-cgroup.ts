import type { CgroupLayout } from '../../../src/host/cgroup-layout.ts';
import { detectCgroupLayout } from '../../../src/host/cgroup-layout.ts';
import { type Cgroup, planCgroup } from '../../../src/host/cgroup-plan.ts';
import { removeCgroup } from '../../../src/host/cgroup.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import type { Teardown } from '../../support/temp-dir.ts';

const host = new LinuxHost();
export const realLayout = detectCgroupLayout(host);

/** Versions this host mounts: what is about one of them is tested where the kernel has it. */
export const versions = ([1, 2] as const).filter((version) =>
  realLayout.hierarchies.some((hierarchy) => hierarchy.version === version),
);

let count = 0;

/** A plan in the kernel's own hierarchies under a name nobody else uses; what is made of it goes when `t` ends. */
export function testCgroup(t: Teardown, layout: CgroupLayout = realLayout): Cgroup {
  const top = `/vmshim-test-${process.pid}-${++count}`;
  t.teardown(() => removeCgroup(host, planCgroup(layout, top, 'x'), AbortSignal.timeout(10_000)));
  return planCgroup(layout, `${top}/vm`, 'x');
}

/** The same host as one of its versions alone would be. */
export function onlyVersion(version: 1 | 2): CgroupLayout {
  return {
    kind: version === 1 ? 'v1' : 'v2',
    systemd: false,
    hierarchies: realLayout.hierarchies.filter((hierarchy) => hierarchy.version === version),
  };
}
