import { describeError } from '../core/errors.ts';
import { announceNic } from '../net/announce-nic.ts';
import type { QmpClient } from '../qemu/qmp-client.ts';
import { queryStatus } from '../qemu/qmp-commands.ts';
import type { GuestServices } from './guest-nics.ts';
import type { MachineDeps } from './machine-request.ts';
import type { NicPlan } from './nic-plan.ts';

/**
 * A frame may be lost: a link that was just made drops what it is to send until the kernel has looked at its carrier, which may
 * take a second, and an IPv6 gateway made with the sandbox answers nobody before it has looked for duplicates of its address
 * (RFC 4862, section 5.4), some 2 s, and longer on a busy node.
 */
const AGAIN_MS = [250, 1_000, 2_000, 6_000];

export interface ArrivalDeps extends Pick<MachineDeps, 'native' | 'log'> {
  readonly qmp: QmpClient;
  readonly dhcp: Pick<GuestServices, 'tellGateway'>;
  /** Of the container, for the log. */
  readonly id: string;
}

/**
 * Makes a guest that goes on in its pod's new sandbox and its gateways know each other's MAC address there, so that its
 * connections go on at once; one that is paused is told once more when it goes on, since all that it was told meanwhile is one
 * moment to it. A guest whose addresses are others asks by itself, once its cable is in again. Disposing gives further times up.
 */
export function announceArrival(deps: ArrivalDeps, nics: readonly NicPlan[]): Disposable {
  const over = new AbortController();
  const timers = new Set<NodeJS.Timeout>();
  const begin = (): void => {
    announce(deps, nics);
    for (const ms of AGAIN_MS) timers.add(setTimeout(() => announce(deps, nics), ms).unref());
  };
  begin();
  resumed(deps.qmp, over.signal).then(
    (wasPaused) => {
      if (wasPaused && !over.signal.aborted) begin();
    },
    // A QEMU that has gone has nobody to tell.
    (error: unknown) =>
      deps.log.debug('nobody says when the guest goes on', { id: deps.id, error: describeError(error) }),
  );
  return {
    [Symbol.dispose]: () => {
      over.abort();
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

/** Resolves when the guest runs. @returns whether it had to be waited for. */
async function resumed(qmp: QmpClient, signal: AbortSignal): Promise<boolean> {
  using resume = qmp.listen(['RESUME']);
  const { running } = await queryStatus(qmp, { signal });
  if (!running) await resume.next({ signal });
  return !running;
}

function announce({ native, log, dhcp, id }: ArrivalDeps, nics: readonly NicPlan[]): void {
  for (const [i, nic] of nics.entries()) {
    if (nic.kind !== 'netns' || nic.untold === true) continue;
    try {
      const frames = announceNic(native, nic);
      log.debug('told the guest’s network where it is now', { id, card: nic.guest.ifName, frames });
      dhcp.tellGateway(i);
    } catch (error) {
      const [card, told] = [nic.guest.ifName, describeError(error)];
      log.warn('the guest’s network could not be told where it is now', { id, card, error: told });
    }
  }
}
