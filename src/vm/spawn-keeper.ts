import { basename, dirname, join } from 'node:path';
import { VmError } from '../core/errors.ts';
import { isSystemdBooted } from '../host/cgroup-layout.ts';
import type { Host } from '../host/host.ts';
import { lives } from './leave-orphan.ts';
import type { VmRecord } from './record.ts';
import { readVmRecords } from './record-directory.ts';

type KeptVm = Pick<VmRecord, 'namespace' | 'id' | 'runDir'>;

const ENV = { NODE_NO_WARNINGS: '1', LC_ALL: 'C' };

/** The shim's program beside ours. */
function keeperCommand({ namespace, id, runDir }: KeptVm): readonly [string, ...string[]] {
  const [node = '', program = ''] = process.argv;
  return [
    node,
    join(dirname(program), 'shim.cjs'),
    ...['-namespace', namespace, '-id', id, '-bundle', runDir, 'keep'],
  ];
}

/**
 * Starts the keeper of an orphan in a session of its own and without anything of ours open: it outlives us, and containerd's
 * `delete` waits for whoever has its stdout. It stays in our cgroup: containerd's, where `delete` runs.
 */
export function spawnKeeper(host: Host, vm: KeptVm): void {
  const [file, ...args] = keeperCommand(vm);
  host.spawn({
    ...{ file, args, env: ENV, cwd: '/' },
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    fds: [null, null, null],
    network: 'inherit',
  });
}

/**
 * Arguments of systemd-run(1) that start a keeper in a scope of its own, which goes with it. As a VM's scope it has no order of its
 * own in a shutdown of the node.
 */
export function planKeeperScope(vm: KeptVm): readonly string[] {
  const unit = `vmshim-keeper-${basename(vm.runDir)}.scope`;
  return [
    ...['--scope', '--quiet', '--collect', `--unit=${unit}`, '--slice=system.slice'],
    ...[`--description=Keeper of VM ${vm.id}`, '--property=DefaultDependencies=no'],
    ...['--', '/bin/sh', '-c', 'cd /; setsid "$@" </dev/null >/dev/null 2>&1 &', 'sh'],
    ...keeperCommand(vm),
  ];
}

/**
 * Gives every orphan a keeper whose own was killed: nobody else would end it. Whoever collects garbage may be in the container of
 * an agent, in a service with a timer or in a login, and all of a cgroup is killed when one of these ends: where systemd is
 * the init, the keeper gets a scope.
 * @param warn told of a keeper that had to stay with us.
 */
export async function replaceKeepers(
  host: Host,
  stateDir: string,
  warn: (sentence: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const lost = readVmRecords(host, stateDir).filter(
    (record) =>
      record.orphan !== undefined &&
      lives(host, record, record.qemu) &&
      !lives(host, record, record.shim) &&
      !lives(host, record, record.orphan.keeper),
  );
  if (!isSystemdBooted(host)) {
    for (const record of lost) spawnKeeper(host, record);
    return;
  }
  for (const record of lost) {
    try {
      await host.exec('systemd-run', planKeeperScope(record), { env: ENV, signal });
    } catch (error) {
      if (signal.aborted) throw error;
      warn(
        `systemd makes no scope for the keeper of VM "${record.name}", which ends with whoever started this: ${VmError.from(error).message}`,
      );
      spawnKeeper(host, record);
    }
  }
}
