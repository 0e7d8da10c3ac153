import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import type { GuardPoint } from './guard-point.ts';
import { GUARD_REASONS, type GuardReason, guardRules } from './guard-rules.ts';
import { type GuardedGuest, renderGuard, renderUnguard } from './guard-script.ts';
import { execInNetns } from './ip-command.ts';

/** Frames of a guest that went nowhere, by reason. */
export type GuardCounters = Readonly<Record<GuardReason, number>>;

/** A guest that is, or should be, held to its own at one place. */
export interface GuardEntry {
  readonly point: GuardPoint;
  readonly guest: GuardedGuest;
}

/**
 * From now on lets out of the guest what has its own MAC and IP addresses only; see guard-rules.ts for the rest. One nft
 * transaction. Idempotent; counters are kept. For hook `ingress` the TAP and the
 * link it is forwarded to must exist.
 * @returns `made` where the node had no rules: this is its first guest, or somebody emptied nftables and the other guests'
 * entries are gone as well, see `restoreGuards`.
 * @throws VmError FailedPrecondition when the node cannot do it; InvalidArgument for an address that is none.
 */
export async function applyGuard(
  host: Host,
  point: GuardPoint,
  guest: GuardedGuest,
  signal?: AbortSignal,
): Promise<'added' | 'made'> {
  const entry = renderGuard(point, guest);
  try {
    // The rules are there from the first VM of the node on, and making them takes ten times as long as using them. A
    // pod's namespace is new, though.
    if (point.netns === undefined && (await tryEntry(host, entry, signal))) return 'added';
    await nft(host, point, `${guardRules(point.hook).script}${entry}`, signal);
    return 'made';
  } catch (error) {
    throw explain(error, point);
  }
}

/**
 * Brings back what `nft flush ruleset` took from guests of the node's namespace; counters begin anew. One transaction for
 * each, because a guest may end meanwhile, with its TAP.
 * @returns the TAPs whose guard could not be brought back.
 */
export async function restoreGuards(
  host: Host,
  entries: readonly GuardEntry[],
  signal?: AbortSignal,
): Promise<string[]> {
  const lost: string[] = [];
  for (const { point, guest } of entries) {
    try {
      await applyGuard(host, point, guest, signal);
    } catch (error) {
      if (!VmError.is(error, 'FailedPrecondition')) throw error;
      lost.push(point.tap);
    }
  }
  return lost;
}

/** Idempotent; a table or namespace that is gone is fine. The TAP need not exist any more. */
export async function removeGuard(
  host: Host,
  point: GuardPoint,
  guest: GuardedGuest,
  signal?: AbortSignal,
): Promise<void> {
  if (point.netns !== undefined && host.inspect(point.netns) === undefined) return;
  await nft(host, point, renderUnguard(point, guest), signal).catch(ignoreAbsent);
}

/** Undefined when the guest is not guarded: never was, or somebody emptied nftables (`nft flush ruleset`). */
export async function readGuardCounters(
  host: Host,
  point: GuardPoint,
  signal?: AbortSignal,
): Promise<GuardCounters | undefined> {
  const { table, marker } = guardRules(point.hook);
  const elements = [...GUARD_REASONS.map((reason) => `dropped_${reason}`), 'guests'];
  const script = elements.map((set) => `get element ${table} ${set} { "${point.tap}" }\n`).join('');
  const stdout = await nft(host, point, `${script}list chain ${table} ${marker}\n`, signal).catch(
    ignoreAbsent,
  );
  if (stdout === undefined) return undefined;
  const counts = GUARD_REASONS.map((reason) => {
    const [, packets] =
      new RegExp(`set dropped_${reason} \\{[^}]*? counter packets (\\d+)`).exec(stdout) ?? [];
    return [reason, Number(packets ?? 0)] as const;
  });
  return Object.fromEntries(counts) as GuardCounters;
}

async function tryEntry(host: Host, entry: string, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    await execInNetns(host, undefined, 'nft', ['-f', '-'], { input: entry, signal });
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

async function nft(host: Host, { netns }: GuardPoint, input: string, signal?: AbortSignal): Promise<string> {
  return (await execInNetns(host, netns, 'nft', ['-f', '-'], { input, signal })).stdout;
}

function ignoreAbsent(error: unknown): undefined {
  if (!isAbsent(error)) throw error;
}

/** ENOENT from the kernel, as nft words it, or no nft at all. */
function isAbsent(error: unknown): boolean {
  if (VmError.is(error, 'NotFound')) return true;
  return VmError.is(error, 'Internal') && error.message.includes('No such file or directory');
}

function explain(error: unknown, { tap, hook }: GuardPoint): unknown {
  if (!VmError.is(error) || !['Internal', 'NotFound'].includes(error.kind)) return error;
  const family = hook === 'bridge' ? 'bridge' : 'netdev';
  return new VmError(
    'FailedPrecondition',
    `the spoof guard of ${tap} cannot be set (${error.message}); ` +
      `the node needs the nft command and a kernel with nftables for family ${family}, or turn the guard off`,
    { cause: error },
  );
}
