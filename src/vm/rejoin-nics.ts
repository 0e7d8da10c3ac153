import { VmError } from '../core/errors.ts';
import type { OwnedFd } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';
import { findTap } from '../net/find-tap.ts';
import { movePodNic } from '../net/move-pod-nic.ts';
import { dropFile, holdFile } from '../qemu/hold-file.ts';
import type { QemuProcess } from '../qemu/process.ts';
import type { MachineDeps } from './machine-request.ts';
import type { NicPlan } from './nic-plan.ts';
import type { VmRecord } from './record.ts';

/** How long QEMU may take to answer. */
const QMP_MS = 10_000;

/**
 * Whether a guest still has the TAPs that join it with its pod's namespace. They outlive the namespace's name, since a TAP's
 * open descriptor keeps the namespace it was made in, and after that QEMU keeps the one it was brought to; but anybody may
 * have deleted them.
 */
export function hasTaps(deps: MachineDeps, record: VmRecord): boolean {
  const { qemu, bootId, nics, id } = record;
  if (qemu === undefined) return false;
  for (const nic of nics) {
    if (nic.kind !== 'netns') continue;
    try {
      using netns = findTap(deps, { ...qemu, bootId }, nic.tap);
      if (netns !== undefined) continue;
      deps.log.warn('a TAP of the running guest is gone, so it has to boot anew', { id, tap: nic.tap });
    } catch (error) {
      const { message } = VmError.from(error);
      deps.log.warn('the running guest cannot be given its pod’s new network, so it has to boot anew', {
        id,
        error: message,
      });
    }
    return false;
  }
  return true;
}

/**
 * Brings the cards of a guest that runs into the namespace of its pod's new sandbox. The plans must be in the record before.
 * May be repeated wherever it failed: the kernel knows where each TAP is.
 */
export async function rejoinNics(
  deps: MachineDeps,
  { identity, qmp }: Pick<QemuProcess, 'identity' | 'qmp'>,
  nics: readonly NicPlan[],
  signal: AbortSignal,
): Promise<void> {
  const { host } = deps;
  // Commands may take their time on a busy node, and QEMU's answers may not.
  const answer = (): AbortSignal => AbortSignal.any([signal, AbortSignal.timeout(QMP_MS)]);
  const left = new Set<string>();
  const entered = new Set<string>();
  for (const nic of nics) {
    if (nic.kind !== 'netns') continue;
    using from = findTap(deps, identity, nic.tap);
    if (from === undefined) {
      throw new VmError(
        'FailedPrecondition',
        `the TAP ${nic.tap} of the running guest is gone, so it has no network any more; restart the VM`,
      );
    }
    using to = host.open(nic.netns, openFlags.O_RDONLY);
    // Before the TAP is there: with the namespace's last user the TAP would go as well.
    await holdFile(qmp, nameOf(deps, to), to.fd, { signal: answer() });
    await movePodNic(deps, nic, { from, guard: nic.guarded }, signal);
    left.add(nameOf(deps, from));
    entered.add(nameOf(deps, to));
  }
  for (const name of left) if (!entered.has(name)) await dropFile(qmp, name, { signal: answer() });
}

/** The same for every descriptor of a namespace. */
function nameOf({ host }: MachineDeps, netns: OwnedFd): string {
  return `netns-${host.inspectFd(netns.fd).identity}`;
}
