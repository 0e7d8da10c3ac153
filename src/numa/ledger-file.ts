import type { ProcessIdentity } from '../host/process-identity.ts';
import type { Claim, Share } from './claim.ts';

/** One VM in the books. It counts as long as its owner lives: the shim while it makes the VM, then QEMU. */
export interface LedgerEntry {
  /** The VM's directory name, which is one per VM and node. */
  readonly key: string;
  /** For people. */
  readonly name: string;
  readonly owner: ProcessIdentity;
  readonly claim: Claim;
}

const FORMAT = 1;

export function formatLedger(entries: readonly LedgerEntry[]): string {
  return `${JSON.stringify({ format: FORMAT, entries }, null, 1)}\n`;
}

/** Undefined for everything that `formatLedger` of this version would not write. */
export function parseLedger(text: string): LedgerEntry[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(value) || value['format'] !== FORMAT) return undefined;
  return isListOf(value['entries'], isEntry) ? value['entries'] : undefined;
}

function isEntry(value: unknown): value is LedgerEntry {
  if (!isObject(value) || typeof value['key'] !== 'string' || typeof value['name'] !== 'string') return false;
  return isOwner(value['owner']) && isClaim(value['claim']);
}

function isOwner(value: unknown): value is ProcessIdentity {
  return (
    isObject(value) &&
    typeof value['bootId'] === 'string' &&
    isAmount(value['pid']) &&
    isAmount(value['startTime'])
  );
}

export function isClaim(value: unknown): value is Claim {
  return (
    isObject(value) &&
    isListOf(value['shares'], isShare) &&
    isAmount(value['pageBytes']) &&
    isListOf(value['dedicated'], isAmount)
  );
}

function isShare(value: unknown): value is Share {
  return (
    isObject(value) && isAmount(value['node']) && isAmount(value['vcpus']) && isAmount(value['memoryBytes'])
  );
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

function isListOf<T>(value: unknown, isItem: (item: unknown) => item is T): value is T[] {
  return Array.isArray(value) && value.every(isItem);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
