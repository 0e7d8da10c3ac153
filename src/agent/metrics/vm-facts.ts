import type { Figures, VmStatus } from '../../control/control-service.ts';
import { absentIs } from '../../host/absent-is.ts';
import { type BlockTraffic, readCgroupBlock } from '../../host/cgroup-block.ts';
import { type CgroupLayout, detectCgroupLayout } from '../../host/cgroup-layout.ts';
import { planCgroup } from '../../host/cgroup-plan.ts';
import { type CgroupStats, readCgroupStats } from '../../host/cgroup-stats.ts';
import type { Host } from '../../host/host.ts';
import type { PodMirror } from '../kube/pod-mirror.ts';
import type { PodView } from '../kube/pod-view.ts';
import type { VmMirror } from '../vms/vm-mirror.ts';
import type { VmView } from '../vms/vm-view.ts';

/** What is measured of one VM at one moment. */
export interface VmFacts {
  readonly view: VmView;
  readonly status: VmStatus | undefined;
  /** What QEMU and the guest tell themselves; undefined where none runs or answers. */
  readonly figures: Figures | undefined;
  readonly pod: PodView | undefined;
  readonly cgroup: CgroupStats;
  readonly block: BlockTraffic | undefined;
  /** Memory of the VM's shim that it shares with nobody, in bytes; undefined when there is no shim. */
  readonly shimBytes: number | undefined;
}

/** Measures every VM of the node: two questions to each shim, a few small files of cgroupfs and /proc. */
export async function readVmFacts(
  host: Host,
  vms: VmMirror,
  pods: PodMirror,
  signal: AbortSignal,
): Promise<VmFacts[]> {
  const statuses = await vms.measures(signal);
  if (statuses.length === 0) return [];
  const layout = detectCgroupLayout(host);
  return statuses.map(({ view, status, figures }) => ({
    view,
    status,
    figures,
    pod: pods.ofVm(view.vm),
    ...readUsage(host, layout, view),
    shimBytes: view.vm.alive === 'shim' ? readOwnMemory(host, view.vm.shim?.pid) : undefined,
  }));
}

function readUsage(host: Host, layout: CgroupLayout, { vm }: VmView): Pick<VmFacts, 'cgroup' | 'block'> {
  const cgroup = planCgroup(layout, vm.cgroup, vm.key);
  return { cgroup: readCgroupStats(host, cgroup), block: readCgroupBlock(host, cgroup) };
}

/** Anonymous memory: what of a process' memory is its own. Source: proc_pid_status(5). */
function readOwnMemory(host: Host, pid: number | undefined): number | undefined {
  if (pid === undefined) return undefined;
  const text = absentIs('', () => host.readText(`/proc/${pid}/status`));
  const kib = /^RssAnon:\s+(\d+) kB$/m.exec(text)?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}
