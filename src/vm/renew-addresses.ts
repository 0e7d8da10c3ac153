import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../core/errors.ts';
import type { Logger } from '../core/logger.ts';
import type { QmpClient } from '../qemu/qmp-client.ts';
import { queryStatus } from '../qemu/qmp-commands.ts';
import { setLink } from '../qemu/set-link.ts';
import type { NicPlan } from './nic-plan.ts';

/**
 * How long the cable is out. A guest that has not looked at its carrier meanwhile has seen nothing; a busy one may need a
 * while for that.
 */
const UNPLUGGED_MS = 2_000;

export interface RenewalDeps {
  readonly qmp: QmpClient;
  readonly log: Logger;
  /** Of the container, for the log. */
  readonly id: string;
  /** Called when the guest has been told. */
  readonly onTold: () => void;
}

/** Pulls the cable of each card whose guest has yet to be told that its addresses are others now. */
export async function pullCables(
  qmp: QmpClient,
  nics: readonly NicPlan[],
  signal: AbortSignal,
): Promise<void> {
  for (const card of untoldCards(nics)) await setLink(qmp, card, false, { signal });
}

/**
 * Plugs the cables that were pulled in again, upon which systems ask DHCP and routers anew, once the guest has had the time to
 * see them out; one that is paused has it when it goes on. Disposing gives it up.
 */
export function plugCablesIn(deps: RenewalDeps, nics: readonly NicPlan[]): Disposable {
  const { log, id } = deps;
  const over = new AbortController();
  const cards = untoldCards(nics);
  if (cards.length > 0) {
    plugIn(deps, cards, over.signal).catch((error: unknown) => {
      if (over.signal.aborted) return;
      log.warn('the guest could not be told of its addresses', { id, error: describeError(error) });
    });
  }
  return { [Symbol.dispose]: () => over.abort() };
}

async function plugIn(
  { qmp, onTold }: RenewalDeps,
  cards: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  using resumed = qmp.listen(['RESUME']);
  const { running } = await queryStatus(qmp, { signal });
  if (!running) await resumed.next({ signal });
  await delay(UNPLUGGED_MS, undefined, { signal });
  for (const card of cards) await setLink(qmp, card, true, { signal });
  onTold();
}

/** Ids of their devices, as QEMU's plan gives them. */
function untoldCards(nics: readonly NicPlan[]): string[] {
  return nics.flatMap((nic, i) => (nic.kind === 'netns' && nic.untold === true ? [`nic${i}`] : []));
}
