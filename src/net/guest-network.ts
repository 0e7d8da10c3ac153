import type { Bandwidth } from './bandwidth.ts';
import type { PortOptions } from './bridge-port.ts';

/**
 * One network card of a guest and what the guest is to know of its network. Made from a hand-over file of the CNI plugin
 * `vm-tap` or from what another CNI plugin left in the pod's network namespace.
 */
export interface GuestInterface {
  /** The pod's name for it, such as `eth0`. */
  readonly ifName: string;
  /** Six lower-case hex pairs. */
  readonly mac: string;
  /** Bytes. */
  readonly mtu: number;
  readonly addresses: readonly GuestAddress[];
  readonly routes: readonly GuestRoute[];
  readonly dns: GuestDns;
}

export interface GuestAddress {
  /** IPv4 or IPv6, without prefix. */
  readonly address: string;
  readonly prefixLength: number;
  readonly gateway: string | undefined;
}

export interface GuestRoute {
  /** CIDR, `0.0.0.0/0` and `::/0` for the default. */
  readonly destination: string;
  readonly gateway: string | undefined;
}

export interface GuestDns {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  /** Of resolv.conf(5), such as `ndots:5`; absent where nobody told any. DHCP cannot tell them, files can. */
  readonly options?: readonly string[];
}

/** How a TAP in the node's network namespace meets the rest of the network. */
export type TapAttachment =
  | { readonly kind: 'bridge' | 'ovs'; readonly bridge: string; readonly port?: PortOptions }
  | { readonly kind: 'routed' };

/** What `vm-tap` leaves for the shim: one NIC whose TAP the shim opens in the node's network namespace. */
export interface TapHandover {
  readonly version: 1;
  /** containerd's id of the pod's sandbox (CNI_CONTAINERID). */
  readonly sandboxId: string;
  /** Path of the pod's network namespace, which holds no link for this NIC. */
  readonly netns: string;
  /** Name of the TAP in the node's namespace, at most 15 bytes. */
  readonly tap: string;
  readonly attachment: TapAttachment;
  /** Undefined: no limit. */
  readonly bandwidth: Bandwidth | undefined;
  readonly guest: GuestInterface;
}
