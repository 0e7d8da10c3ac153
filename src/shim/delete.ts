import { containerd } from '#wire';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { LinuxHost } from '../host/linux-host.ts';
import { loadNative } from '../host/native.ts';
import { isAlive } from '../host/process-identity.ts';
import { writeStdout } from '../host/standard-streams.ts';
import { endDeadVm } from '../vm/end-dead-vm.ts';
import { readRecord } from '../vm/record.ts';
import { findRecord } from '../vm/record-pointer.ts';
import { vmNames } from '../vm/names.ts';
import type { ShimFlags } from './args.ts';
import { removeDeadSocket } from './dead-socket.ts';
import { listMembers } from './member-pointer.ts';
import { loadConfig } from '../vm/load-config.ts';
import { DEFAULT_SOCKET_ROOT, shimSocketPath } from './socket-address.ts';
import { timestamp } from './timestamp.ts';

/** containerd gives up after 5 s. */
const BUDGET_MS = 4_000;

/**
 * The `delete` action, which containerd runs whenever a shim's connection has closed, also after a clean end: undoes
 * what the record names and prints the task's exit; for a pod's sandbox also what the records of its containers name.
 * Needs neither shim nor QEMU nor guest, and may run any number of times, also when the bundle is gone.
 */
export async function deleteTask(flags: ShimFlags): Promise<void> {
  const host = new LinuxHost();
  const native = loadNative();
  const { env } = process;
  const bundle = flags.bundle === '' ? process.cwd() : flags.bundle;
  const deps = { host, native };
  const budget = AbortSignal.timeout(BUDGET_MS);
  // Before our own, of which a broken configuration may keep us.
  const members = await Promise.allSettled(
    orphans(host, bundle).map((record) => endDeadVm(deps, record, budget)),
  );
  const own = findRecord(host, bundle) ?? configuredRecord(host, env, flags);
  const { pid, exit, shimSocket } = await endDeadVm(deps, own, budget);
  for (const member of members) if (member.status === 'rejected') throw member.reason;
  await removeDeadSocket(host, native, shimSocket ?? announcedSocket(host, bundle) ?? ownSocket(env, flags));
  const reply = containerd.task.DeleteResponse.encode({
    pid,
    exitStatus: exit.status,
    exitedAt: timestamp(exit.at),
  }).finish();
  writeStdout(reply);
}

/**
 * Records of the pod's containers that no shim looks after. One that lives has its containers deleted one by one, and ends
 * with the last; a second `delete` of the same VM beside ours does no harm.
 */
function orphans(host: Host, bundle: string): string[] {
  return listMembers(host, bundle).filter((path) => {
    const record = readRecord(host, path);
    if (record === undefined) return true;
    const { shim, bootId } = record;
    return shim === undefined || !isAlive(host, { ...shim, bootId });
  });
}

/** Where a record is that no bundle names. Asked only then: a config file that is broken now must not keep a VM. */
function configuredRecord(host: Host, env: NodeJS.ProcessEnv, flags: ShimFlags): string {
  return vmNames(loadConfig(host, env, undefined).stateDir, flags.namespace, flags.id).record;
}

/** The address that `start` wrote into the bundle. */
function announcedSocket(host: Host, bundle: string): string | undefined {
  try {
    return /^unix:\/\/(\/.*)$/.exec(host.readText(`${bundle}/address`).trim())?.[1];
  } catch (error) {
    if (VmError.is(error, 'NotFound')) return undefined;
    throw error;
  }
}

/** The socket of a container that is no part of a pod. */
function ownSocket(env: NodeJS.ProcessEnv, { address, namespace, id }: ShimFlags): string {
  return shimSocketPath(env['SHIM_SOCKET_DIR'] ?? DEFAULT_SOCKET_ROOT, address, namespace, id);
}
