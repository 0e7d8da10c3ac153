import { absentIs } from '../host/absent-is.ts';
import { killCgroup } from '../host/cgroup-kill.ts';
import { detectCgroupLayout } from '../host/cgroup-layout.ts';
import { planCgroup } from '../host/cgroup-plan.ts';
import { settleAll } from '../net/settle-all.ts';
import { type CleanUpDeps, leaveBooks } from './clean-up.ts';
import type { VmNames } from './names.ts';
import type { VmRecord } from './record.ts';
import { unplugNics } from './unplug-nics.ts';

/**
 * Takes away what a QEMU that has ended leaves and the VM's next one makes anew: its sockets, the images of drives that
 * are made of what volumes say, its cards' guards and ports, its place in the books of memory and CPUs. Idempotent. Disks, cgroup, console log and record stay.
 */
export async function unplugMachine(
  deps: CleanUpDeps,
  record: VmRecord,
  names: VmNames,
  signal: AbortSignal,
): Promise<void> {
  const { host, native } = deps;
  // What served that QEMU, such as virtiofsd, ends with it; this is for what does not.
  await killCgroup(host, native, planCgroup(detectCgroupLayout(host), record.cgroup, record.key), signal);
  const images = absentIs<string[]>([], () => host.listDir(names.runDir)).filter((name) =>
    name.endsWith('.img'),
  );
  for (const path of [
    names.qmpSocket,
    names.consoleSocket,
    names.vncSocket,
    ...images.map((name) => `${names.runDir}/${name}`),
  ])
    absentIs(undefined, () => host.remove(path));
  await settleAll([unplugNics(host, record.nics, signal), leaveBooks(deps, record, signal)]);
}
