import { containerd } from '#wire';
import { LinuxHost } from '../host/linux-host.ts';
import { loadNative } from '../host/native.ts';
import { writeStdout } from '../host/standard-streams.ts';
import { cleanUpTask } from '../vm/clean-up.ts';
import { findRecord } from '../vm/record-pointer.ts';
import { vmNames } from '../vm/names.ts';
import type { ShimFlags } from './args.ts';
import { loadConfig } from '../vm/load-config.ts';
import { timestamp } from './timestamp.ts';

/** containerd gives up after 5 s. */
const BUDGET_MS = 4_000;

/**
 * The `delete` action, which containerd runs whenever a shim's connection has closed, also after a clean end: undoes
 * what the record names and prints the task's exit. Needs neither shim nor QEMU nor guest, and may run any number of
 * times.
 */
export async function deleteTask(flags: ShimFlags): Promise<void> {
  const host = new LinuxHost();
  const bundle = flags.bundle === '' ? process.cwd() : flags.bundle;
  const config = loadConfig(host, process.env, undefined);
  const path = findRecord(host, bundle) ?? vmNames(config.stateDir, flags.namespace, flags.id).record;
  const { pid, exit } = await cleanUpTask(
    { host, native: loadNative() },
    path,
    AbortSignal.timeout(BUDGET_MS),
  );
  const reply = containerd.task.DeleteResponse.encode({
    pid,
    exitStatus: exit.status,
    exitedAt: timestamp(exit.at),
  }).finish();
  writeStdout(reply);
}
