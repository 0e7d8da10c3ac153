/**
 * What a pod says about the data its guest configures itself with, before volumes are read and addresses are known.
 * Holds secrets: never log it.
 */
export interface GuestDataSpec {
  readonly kind: GuestDataKind;
  readonly hostname: string;
  readonly availabilityZone: string;
  /** Kubernetes' namespace, containerd's for a bare container: what comes closest to OpenStack's project. */
  readonly projectId: string;
  readonly userData: Uint8Array | undefined;
  readonly vendorData: string | undefined;
  readonly meta: Readonly<Record<string, string>>;
  /** One public key each, as in authorized_keys. */
  readonly sshKeys: readonly string[];
  /** The container's environment without what containerd itself puts there. */
  readonly env: readonly EnvVariable[];
  /** How addresses reach the guest: written into the drive, or by DHCP alone. */
  readonly network: GuestNetworkSource;
  /** Volumes of the pod with more of the above, in the order of their mount points. */
  readonly volumes: readonly GuestDataVolume[];
}

/**
 * `config-drive`: OpenStack's layout on vfat, `config-drive-iso`: the same on ISO 9660, `nocloud`: cloud-init's own layout
 * on vfat.
 */
export type GuestDataKind = 'config-drive' | 'config-drive-iso' | 'nocloud' | 'none';

export type GuestNetworkSource = 'static' | 'dhcp';

export interface EnvVariable {
  readonly name: string;
  readonly value: string;
}

export interface GuestDataVolume {
  /** Where the container would see it. */
  readonly destination: string;
  /** Absolute path on the host. */
  readonly source: string;
}
