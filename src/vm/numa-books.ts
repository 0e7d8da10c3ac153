import type { Host } from '../host/host.ts';
import type { LedgerEntry } from '../numa/ledger-file.ts';
import { isClaim } from '../numa/ledger-file.ts';
import type { Ledger } from '../numa/ledger.ts';
import { readVmRecords } from './record-directory.ts';
import type { VmRecord } from './record.ts';

/** Name of the ledger in the state directory. */
const LEDGER_FILE = 'numa.json';

/** The books of the node that `stateDir` belongs to. */
export function numaBooks(
  host: Host,
  stateDir: string,
  warn: Ledger['warn'],
): Pick<Ledger, 'host' | 'path' | 'rebuild' | 'warn'> {
  return {
    host,
    path: `${stateDir}/${LEDGER_FILE}`,
    rebuild: () => entriesOf(readVmRecords(host, stateDir).filter(({ numa }) => numa?.ledger !== undefined)),
    warn,
  };
}

/** What the VMs' own records say they have, also where there was nothing to choose; dead ones are among them. */
export function recordedEntries(host: Host, stateDir: string): LedgerEntry[] {
  return entriesOf(readVmRecords(host, stateDir));
}

function entriesOf(records: readonly VmRecord[]): LedgerEntry[] {
  return records.flatMap((record) => recordedEntry(record) ?? []);
}

function recordedEntry({ key, name, numa, qemu, shim, bootId }: VmRecord): LedgerEntry | undefined {
  // While a VM is made there is no QEMU yet, and its shim answers for it.
  const owner = qemu ?? shim;
  if (owner === undefined || numa === undefined || !isClaim(numa.claim)) return undefined;
  return { key, name, owner: { ...owner, bootId }, claim: numa.claim };
}
