/**
 * Counts the exit events of processes: each has exactly one. Pure. A process whose end falls into a time in which nobody could
 * listen, because containerd was dead, has one at most as far as anybody can tell.
 *
 * Of a task whose shim dies, containerd tells an end of its own, also where the shim had told it before it died
 * (cleanupAfterDeadShim of containerd 1.6). Nothing is left of such a VM, so `delete` knows no process and that event has pid 0,
 * which no shim sends.
 */

/** An event `/tasks/exit` of containerd. */
export interface ExitEvent {
  readonly container: string;
  readonly pid: number;
  readonly status: number;
}

interface Entry {
  readonly events: readonly ExitEvent[];
  /** Whether it has ended, and in which of the times in which somebody listened. */
  readonly ended: boolean;
  readonly deaf: boolean;
}

/** By container id: a container of ours has one process. */
export type ExitLedger = ReadonlyMap<string, Entry>;

export const NO_EXITS: ExitLedger = new Map();
const UNKNOWN: Entry = { events: [], ended: false, deaf: false };

/** A container was started. */
export function noteStart(ledger: ExitLedger, container: string): ExitLedger {
  return change(ledger, container, (entry) => entry);
}

/** Somebody was told that the container has ended. */
export function noteEnd(ledger: ExitLedger, container: string): ExitLedger {
  return change(ledger, container, (entry) => ({ ...entry, ended: true }));
}

export function noteEvent(ledger: ExitLedger, event: ExitEvent): ExitLedger {
  return change(ledger, event.container, (entry) => ({ ...entry, events: [...entry.events, event] }));
}

/** From now on until it is said again, events may be missed of all that run. */
export function noteDeafness(ledger: ExitLedger): ExitLedger {
  const running = [...ledger].filter(([, { events }]) => events.length === 0);
  return new Map([...ledger, ...running.map(([id, entry]) => [id, { ...entry, deaf: true }] as const)]);
}

/** Containers whose event has to be there, and is not yet. */
export function missingExits(ledger: ExitLedger): string[] {
  return [...ledger].flatMap(([id, { events, ended, deaf }]) =>
    ended && !deaf && events.length === 0 ? [id] : [],
  );
}

export function judgeExits(ledger: ExitLedger): string[] {
  const many = [...ledger].flatMap(([id, { events }]) =>
    events.filter(({ pid }, i) => i === 0 || pid !== 0).length > 1
      ? [`container ${id} has ${events.length} exit events: ${events.map(describe).join(', ')}`]
      : [],
  );
  return [...many, ...missingExits(ledger).map((id) => `container ${id} ended without an exit event`)];
}

function describe({ pid, status }: ExitEvent): string {
  return `pid ${pid} status ${status}`;
}

function change(ledger: ExitLedger, container: string, next: (entry: Entry) => Entry): ExitLedger {
  return new Map([...ledger, [container, next(ledger.get(container) ?? UNKNOWN)]]);
}
