import { containerd } from '#wire';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { LinuxHost } from '../host/linux-host.ts';
import { loadNative } from '../host/native.ts';
import { writeStdout } from '../host/standard-streams.ts';
import { type CleanedTask, cleanUpTask } from '../vm/clean-up.ts';
import { findMembers, findRecord } from '../vm/record-pointer.ts';
import { vmNames } from '../vm/names.ts';
import type { ShimFlags } from './args.ts';
import { removeDeadSocket } from './dead-socket.ts';
import { loadConfig } from '../vm/load-config.ts';
import { DEFAULT_SOCKET_ROOT, shimSocketPath } from './socket-address.ts';
import { timestamp } from './timestamp.ts';

/** containerd gives up after 5 s. */
const BUDGET_MS = 4_000;

/**
 * The `delete` action, which containerd runs whenever a shim's connection has closed, also after a clean end: undoes
 * what the record names and prints the task's exit. Needs neither shim nor QEMU nor guest, and may run any number of
 * times, also when the bundle is gone.
 */
export async function deleteTask(flags: ShimFlags): Promise<void> {
  const host = new LinuxHost();
  const native = loadNative();
  const { env } = process;
  const bundle = flags.bundle === '' ? process.cwd() : flags.bundle;
  const budget = AbortSignal.timeout(BUDGET_MS);
  const undo = (record: string): Promise<CleanedTask> => cleanUpTask({ host, native }, record, budget);
  // Before our own, of which a broken configuration may keep us.
  const members = await Promise.allSettled(findMembers(host, bundle).map(undo));
  const { pid, exit, shimSocket } = await undo(
    findRecord(host, bundle) ?? configuredRecord(host, env, flags),
  );
  for (const member of members) if (member.status === 'rejected') throw member.reason;
  await removeDeadSocket(host, native, shimSocket ?? announcedSocket(host, bundle) ?? ownSocket(env, flags));
  const reply = containerd.task.DeleteResponse.encode({
    pid,
    exitStatus: exit.status,
    exitedAt: timestamp(exit.at),
  }).finish();
  writeStdout(reply);
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
