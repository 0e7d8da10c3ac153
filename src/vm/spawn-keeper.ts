import { dirname, join } from 'node:path';
import type { Host } from '../host/host.ts';
import { lives } from './leave-orphan.ts';
import type { VmRecord } from './record.ts';
import { readVmRecords } from './record-directory.ts';

/**
 * Starts the keeper of an orphan, the shim's program beside ours, in a session of its own and without anything of ours open: it outlives
 * us, and containerd's `delete` waits for whoever has its stdout.
 */
export function spawnKeeper(host: Host, { namespace, id, runDir }: VmRecord): void {
  const [node = '', program = ''] = process.argv;
  host.spawn({
    file: node,
    args: [join(dirname(program), 'shim.cjs'), '-namespace', namespace, '-id', id, '-bundle', runDir, 'keep'],
    env: { NODE_NO_WARNINGS: '1', LC_ALL: 'C' },
    cwd: '/',
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    fds: [null, null, null],
    network: 'inherit',
  });
}

/** Gives every orphan a keeper whose own was killed: nobody else would end it. @returns how many there were. */
export function replaceKeepers(host: Host, stateDir: string): number {
  const lost = readVmRecords(host, stateDir).filter(
    (record) =>
      record.orphan !== undefined &&
      lives(host, record, record.qemu) &&
      !lives(host, record, record.shim) &&
      !lives(host, record, record.orphan.keeper),
  );
  for (const record of lost) spawnKeeper(host, record);
  return lost.length;
}
