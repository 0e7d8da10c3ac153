import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { readAllRecords } from './all-records.ts';

/**
 * Which other VM of this node has a disk beside its root disk, as the records tell; one that cannot be read is passed over.
 * @param identity `OpenDisk.identity`
 * @returns such as `VM "web-0"`.
 */
export function diskHolder(
  host: Host,
  stateDir: string,
  identity: string,
  ownRunDir: string,
): string | undefined {
  for (const { record } of readAllRecords(host, stateDir)) {
    if (record === undefined || VmError.is(record) || record.runDir === ownRunDir) continue;
    // Absent in records of older versions.
    const disks = (record.disks as typeof record.disks | undefined) ?? [];
    if (disks.some((disk) => disk.identity === identity)) return `VM "${record.name}"`;
  }
  return undefined;
}
