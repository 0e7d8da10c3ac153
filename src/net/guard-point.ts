import type { TapAttachment } from './guest-network.ts';
import type { Netns } from './ip-command.ts';
import { checkLinkName } from './link-name.ts';

/** Where what a guest sends is checked. */
export interface GuardPoint {
  /** Of netfilter: at the ports of Linux bridges, or where a TAP that is no such port takes a frame in. */
  readonly hook: 'bridge' | 'ingress';
  readonly tap: string;
  readonly netns: Netns;
  /** The link every frame that passes is sent out on; undefined leaves it to the bridge or the IP stack. */
  readonly forwardTo: string | undefined;
  /** Whether frames with a VLAN tag pass, in which nothing but the MAC address is checked. */
  readonly trunk: boolean;
}

/**
 * For a TAP in the node's namespace.
 * @param shaper the link that what passes the guard goes through first; for hook `bridge`, which comes after it, no matter.
 */
export function guardTap(tap: string, attachment: TapAttachment, shaper?: string): GuardPoint {
  const hook = attachment.kind === 'bridge' ? 'bridge' : 'ingress';
  const trunk = attachment.kind !== 'routed' && attachment.port?.trunk !== undefined;
  const forwardTo = hook === 'bridge' ? undefined : shaper;
  return { hook, tap: checkLinkName(tap), netns: undefined, forwardTo, trunk };
}

/**
 * For a TAP beside a pod's link. A redirect by tc on the TAP would come before netfilter, and what tc redirects passes by
 * netfilter's egress hooks as well; so here the guard does the redirect.
 */
export function guardMirroredTap(netns: string, tap: string, link: string): GuardPoint {
  return { hook: 'ingress', tap: checkLinkName(tap), netns, forwardTo: checkLinkName(link), trunk: false };
}
