import { VmError } from '../core/errors.ts';
import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';
import { isAlive } from '../host/process-identity.ts';
import { readRecord, RECORD_FILE, type VmRecord } from './record.ts';

/** What is in the state directory, one entry per VM's directory. */
export interface RecordEntry {
  /** The VM's directory. */
  readonly runDir: string;
  /** Undefined where the directory has no record (yet), an error where it cannot be read. */
  readonly record: VmRecord | VmError | undefined;
}

/** Every record of this node; one that cannot be read is told of, since what it names must be left alone. */
export function readAllRecords(host: Host, stateDir: string): RecordEntry[] {
  return absentIs<string[]>([], () => host.listDir(stateDir)).flatMap((key): RecordEntry[] => {
    const runDir = `${stateDir}/${key}`;
    if (host.inspect(runDir)?.kind !== 'directory') return [];
    try {
      return [{ runDir, record: readRecord(host, `${runDir}/${RECORD_FILE}`) }];
    } catch (error) {
      return [{ runDir, record: VmError.from(error) }];
    }
  });
}

/** The VM that runs from a root disk, for a sentence; undefined when no record tells. */
export function describeHolder(host: Host, stateDir: string, rootDisk: string): string | undefined {
  for (const { record } of readAllRecords(host, stateDir)) {
    if (record === undefined || VmError.is(record) || record.rootDisk !== rootDisk) continue;
    if (record.qemu === undefined || !isAlive(host, { ...record.qemu, bootId: record.bootId })) continue;
    return `VM "${record.name}" (${record.namespace}/${record.id})`;
  }
  return undefined;
}
