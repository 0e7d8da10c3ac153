import { VmError } from '../core/errors.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { Host } from '../host/host.ts';
import type { GuestInterface, TapAttachment } from '../net/guest-network.ts';
import { readHandovers } from '../net/handover.ts';
import { readPodInterfaces } from '../net/pod-interface.ts';
import { tapName } from '../net/tap-name.ts';

/** One card of the pod's network, before anything is made for it; part of the VM's record. */
export type NicPlan = TapNicPlan | MirroredNicPlan;

interface NicCommon {
  readonly tap: string;
  readonly guest: GuestInterface;
}

/** A TAP in the node's namespace, as the CNI plugin `vm-tap` handed it over. */
export interface TapNicPlan extends NicCommon {
  readonly kind: 'tap';
  readonly attachment: TapAttachment;
}

/** A TAP in the pod's namespace beside the link that another CNI plugin left there. */
export interface MirroredNicPlan extends NicCommon {
  readonly kind: 'netns';
  readonly netns: string;
}

/**
 * The cards of a pod's VM: those that `vm-tap` prepared for the sandbox, else one for each link in the pod's namespace.
 * None for the other network modes.
 * @throws VmError FailedPrecondition where the pod has no network to join.
 */
export async function planNics(
  host: Host,
  { network, owner }: VmSpec,
  stateDir: string,
  netns: string | undefined,
  signal: AbortSignal,
): Promise<NicPlan[]> {
  if (network.mode !== 'pod' || owner.kind !== 'pod') return [];
  const handovers = network.wanted === 'netns' ? [] : readHandovers(host, stateDir, owner.sandboxId);
  if (handovers.length > 0) {
    return handovers.map(({ tap, attachment, guest }) => ({ kind: 'tap', tap, attachment, guest }));
  }
  if (network.wanted === 'tap') {
    throw new VmError(
      'FailedPrecondition',
      'annotation vmshim.io/network is "tap" but the CNI plugin vm-tap left nothing for this pod; name vm-tap in the CNI configuration of the runtime (cni_conf_dir), or leave the annotation out',
    );
  }
  if (netns === undefined) {
    throw new VmError(
      'FailedPrecondition',
      'the pod’s sandbox names no network namespace, so the VM has no network to join; set vmshim.io/network to "user" or "none"',
    );
  }
  const found = await readPodInterfaces(host, netns, signal);
  if (found.length === 0) {
    throw new VmError(
      'FailedPrecondition',
      `the pod’s network namespace ${netns} holds no link that a VM can be given; set vmshim.io/network to "user" or "none", or see which CNI plugin the runtime uses`,
    );
  }
  return found.map((guest) => ({
    kind: 'netns',
    netns,
    tap: tapName(owner.uid, guest.ifName),
    guest,
  }));
}
