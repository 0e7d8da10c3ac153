import { VmError } from '../core/errors.ts';
import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';
import { readRecord, type VmRecord } from './record.ts';

/** The VMs of this node, as their records tell; a record that cannot be read is passed over. */
export function readVmRecords(host: Host, stateDir: string): VmRecord[] {
  return absentIs<string[]>([], () => host.listDir(stateDir))
    .flatMap((key) => {
      try {
        return readRecord(host, `${stateDir}/${key}/record.json`) ?? [];
      } catch (error) {
        if (error instanceof VmError) return [];
        throw error;
      }
    })
    .sort((a, b) => a.createdAt - b.createdAt);
}
