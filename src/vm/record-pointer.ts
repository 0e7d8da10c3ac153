import { absentIs } from '../host/absent-is.ts';
import type { Host } from '../host/host.ts';

/**
 * The bundle tells where a VM's record is: containerd gives `delete` nothing but the bundle, and the state directory may
 * have come from a runtime option that `delete` never sees.
 */
const POINTER = 'vmshim-record';

export function writeRecordPointer(host: Host, bundle: string, record: string): void {
  host.replaceFile(`${bundle}/${POINTER}`, `${record}\n`, 0o600);
}

/** Path of the record, or undefined where the bundle names none. */
export function findRecord(host: Host, bundle: string): string | undefined {
  const path = absentIs('', () => host.readText(`${bundle}/${POINTER}`)).trim();
  return path.startsWith('/') ? path : undefined;
}
