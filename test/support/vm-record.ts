import { join } from 'node:path';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { vmNames } from '../../src/vm/names.ts';
import { readRecord, type VmRecord } from '../../src/vm/record.ts';

/** The record of a VM that exists, of a private containerd's or shim client's directory. */
export function vmRecord({ directory }: { directory: string }, id: string, namespace = 'default'): VmRecord {
  const record = readRecord(new LinuxHost(), vmNames(join(directory, 'vms'), namespace, id).record);
  if (record === undefined) throw new Error(`there is no record of ${namespace}/${id}`);
  return record;
}

/** The pid of a process that a record must name. */
export function pidOf(mark: { readonly pid: number } | undefined): number {
  if (mark === undefined) throw new Error('the record names no such process');
  return mark.pid;
}
