import type { GuestDataKind, GuestNetworkSource } from '../../core/guest-data-spec.ts';

/**
 * Everything a guest is told about itself, complete: what annotations, volumes, environment, network and node came to.
 * Holds secrets: never log it.
 */
export interface GuestData {
  readonly kind: DriveKind;
  /** Equal to the SMBIOS system UUID: cloud-init compares the two to know its instance again. */
  readonly uuid: string;
  readonly name: string;
  readonly hostname: string;
  readonly projectId: string;
  readonly availabilityZone: string;
  /** 512 bytes, the same for the VM's life. */
  readonly randomSeed: Uint8Array;
  readonly meta: Readonly<Record<string, string>>;
  readonly sshKeys: readonly string[];
  /** As given; undefined where there is none. */
  readonly userData: Uint8Array | undefined;
  readonly vendorData: string | undefined;
  /** Replaces the network document that would be made from `nics`, as given. */
  readonly networkData: Uint8Array | undefined;
  readonly network: GuestNetworkSource;
  readonly nics: readonly GuestNic[];
  readonly devices: readonly GuestDevice[];
  /** crypt(3) hash for the guest's default user. */
  readonly passwordHash: string | undefined;
  /** Clear text for the administrator that cloudbase-init makes. */
  readonly adminPassword: string | undefined;
  /** Written into the guest by cloud-init. */
  readonly files: readonly InjectedFile[];
  /** Put into the root directory of the drive, such as unattend.xml. */
  readonly rootFiles: readonly DriveFile[];
}

export type DriveKind = Exclude<GuestDataKind, 'none'>;

export interface InjectedFile {
  /** Absolute path in the guest. */
  readonly path: string;
  readonly content: Uint8Array;
}

/** A file of the drive; directories are made as paths name them. */
export interface DriveFile {
  /** Relative, with `/` between components. */
  readonly path: string;
  readonly content: Uint8Array;
}

/** A network card; the shape of `GuestInterface` in src/net, which this folder may not import. */
export interface GuestNic {
  readonly ifName: string;
  readonly mac: string;
  /** Bytes; undefined where the network decides. */
  readonly mtu: number | undefined;
  /** Without any address the card asks by DHCP. */
  readonly addresses: readonly {
    readonly address: string;
    readonly prefixLength: number;
    readonly gateway: string | undefined;
  }[];
  readonly routes: readonly { readonly destination: string; readonly gateway: string | undefined }[];
  readonly dns: { readonly nameservers: readonly string[]; readonly search: readonly string[] };
}

/** Where a device sits, for guests that look for it by place. */
export type GuestDevice =
  | { readonly type: 'nic'; readonly bus: 'pci'; readonly address: string; readonly mac: string }
  | {
      readonly type: 'disk';
      readonly bus: 'pci' | 'scsi' | 'sata' | 'usb';
      readonly address: string;
      readonly serial: string;
      /** What the pod calls it. */
      readonly tags: readonly string[];
    };
