import { absentIs } from '../host/absent-is.ts';
import { lockFile } from '../host/file-lock.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { bootId, type ProcessIdentity, readIdentity } from '../host/process-identity.ts';
import type { Claim } from './claim.ts';
import { formatLedger, type LedgerEntry, parseLedger } from './ledger-file.ts';

/** The books of one node: what every VM has of its memory nodes and CPUs, in one file that all shims share. */
export interface Ledger {
  readonly host: Host;
  readonly native: Native;
  /** Of the file; the lock is beside it. Their directory must exist. */
  readonly path: string;
  /** What the file should say, from the VMs' own records; asked when the file is damaged or missing. */
  readonly rebuild: () => readonly LedgerEntry[];
  readonly warn: (sentence: string) => void;
}

/** An entry that is to be: whose claim is decided while nobody else decides. */
export interface NewEntry<T> {
  readonly claim: Claim;
  readonly result: T;
}

/**
 * Enters a VM: `decide` sees what the living VMs have and says what this one takes, with nobody else at the books until
 * it is written down. An older entry of the same key is replaced. What `decide` throws changes nothing.
 */
export async function enter<T>(
  ledger: Ledger,
  vm: Pick<LedgerEntry, 'key' | 'name' | 'owner'>,
  decide: (claims: readonly Claim[]) => NewEntry<T>,
  signal: AbortSignal,
): Promise<T> {
  return await update(ledger, signal, (entries) => {
    const others = entries.filter(({ key }) => key !== vm.key);
    const { claim, result } = decide(others.map((entry) => entry.claim));
    return { entries: [...others, { ...vm, claim }], result };
  });
}

/**
 * Changes what a VM has: `decide` sees its claim and those of the other living VMs, with nobody else at the books until the
 * answer is written down. Nothing happens to one that is not in them, or whose process has ended. What `decide` throws
 * changes nothing.
 */
export async function amend(
  ledger: Ledger,
  key: string,
  decide: (own: Claim, others: readonly Claim[]) => Claim,
  signal: AbortSignal,
): Promise<void> {
  await update(ledger, signal, (entries) => {
    const others = entries.filter((entry) => entry.key !== key).map(({ claim }) => claim);
    return {
      entries: entries.map((entry) =>
        entry.key === key ? { ...entry, claim: decide(entry.claim, others) } : entry,
      ),
      result: undefined,
    };
  });
}

/** Makes `owner` the process that an entry lives with; nothing happens where there is no entry. */
export async function handOver(
  ledger: Ledger,
  key: string,
  owner: ProcessIdentity,
  signal: AbortSignal,
): Promise<void> {
  await update(ledger, signal, (entries) => ({
    entries: entries.map((entry) => (entry.key === key ? { ...entry, owner } : entry)),
    result: undefined,
  }));
}

/** Takes a VM out of the books; one that is not in them is fine, and so are books that are gone. */
export async function leave(ledger: Ledger, key: string, signal: AbortSignal): Promise<void> {
  if (ledger.host.inspect(ledger.path) === undefined) return;
  await update(ledger, signal, (entries) => ({
    entries: entries.filter((entry) => entry.key !== key),
    result: undefined,
  }));
}

/** The entries of living VMs, to look at: no lock, and nothing is written. */
export function readLedger(ledger: Pick<Ledger, 'host' | 'path' | 'rebuild' | 'warn'>): LedgerEntry[] {
  return living(ledger.host, readEntries(ledger) ?? ledger.rebuild());
}

interface Change<T> {
  readonly entries: readonly LedgerEntry[];
  readonly result: T;
}

/** Nothing in here waits while the lock is held, so it is held for a read, a decision and a write. */
async function update<T>(
  ledger: Ledger,
  signal: AbortSignal,
  change: (living: readonly LedgerEntry[]) => Change<T>,
): Promise<T> {
  const { host, native, path } = ledger;
  using _lock = await lockFile(host, native, `${path}.lock`, signal);
  const before = readEntries(ledger) ?? restoreEntries(ledger);
  const { entries, result } = change(living(host, before));
  const text = formatLedger(entries);
  if (text !== formatLedger(before) || host.inspect(path) === undefined) host.replaceFile(path, text, 0o600);
  return result;
}

/** @returns undefined where there is no file: on a new node, or where somebody has removed it. */
function readEntries({
  host,
  path,
  rebuild,
  warn,
}: Omit<Ledger, 'native'>): readonly LedgerEntry[] | undefined {
  const text = absentIs(undefined, () => host.readText(path));
  if (text === undefined) return undefined;
  const entries = parseLedger(text);
  if (entries !== undefined) return entries;
  warn(`the NUMA ledger ${path} is damaged; it is written anew from the records of the VMs`);
  return rebuild();
}

/** A node without a VM in its books has lost none. Whoever looks without the lock may see one that is just being entered. */
function restoreEntries({ host, path, rebuild, warn }: Ledger): readonly LedgerEntry[] {
  const entries = living(host, rebuild());
  if (entries.length > 0)
    warn(
      `the NUMA ledger ${path} is missing, though VMs run that were in it; it is written anew from their records`,
    );
  return entries;
}

/** An entry whose owner is gone is as good as none: what it stood for is free. */
export function living(host: Host, entries: readonly LedgerEntry[]): LedgerEntry[] {
  if (entries.length === 0) return [];
  const boot = bootId(host);
  return entries.filter(({ owner }) => {
    if (owner.bootId !== boot) return false;
    const now = readIdentity(host, owner.pid);
    return now?.startTime === owner.startTime && !'ZX'.includes(now.state);
  });
}
