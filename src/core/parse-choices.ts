import type { GuestDataKind, GuestNetworkSource } from './guest-data-spec.ts';
import type { DiskBus, IoErrorPolicy, NicModel, VideoModel, WatchdogAction } from './hardware-spec.ts';
import type { GuestEndPolicy } from './power-spec.ts';
import type {
  AccelChoice,
  CpuModel,
  CpuPinning,
  FirmwareKind,
  MachineKind,
  NetworkSpec,
  NumaChoice,
  NumaOverflow,
  ShimDeathPolicy,
} from './vm-spec.ts';

/** Readers of the words that config file and annotations have in common; undefined for what is no such word. */

export const MAX_VCPUS = 255;

export const parseAccel = oneOf<AccelChoice>(['auto', 'kvm', 'tcg']);
export const parseMachine = oneOf<MachineKind>(['q35', 'microvm']);
export const parseFirmware = oneOf<FirmwareKind>(['bios', 'uefi', 'uefi-secure']);
/** Where there is no pod: QEMU's own network, or none. */
export type BareNetworkMode = Exclude<NetworkSpec['mode'], 'pod'>;
/** `pod` is `tap` where the CNI plugin vm-tap prepared one, else `netns`. */
export type NetworkMode = BareNetworkMode | 'pod' | 'tap' | 'netns';
export const parseBareNetworkMode = oneOf<BareNetworkMode>(['user', 'none']);
export const parseNetworkMode = oneOf<NetworkMode>(['user', 'none', 'pod', 'tap', 'netns']);
export const parseGuestDataKind = oneOf<GuestDataKind>([
  'config-drive',
  'config-drive-iso',
  'nocloud',
  'none',
]);
export const parseGuestNetworkSource = oneOf<GuestNetworkSource>(['static', 'dhcp']);
export type KeepBase = 'free' | 'copy' | 'off';
export const parseKeepBase = oneOf<KeepBase>(['free', 'copy', 'off']);
export const parseRootKey = oneOf<'uid' | 'name'>(['uid', 'name']);
export const parseRootFill = oneOf<'once' | 'never'>(['once', 'never']);

export const parseSwitch = oneOf<'on' | 'off'>(['on', 'off']);
export const parseGuestOs = oneOf<'linux' | 'windows'>(['linux', 'windows']);
export const parseClock = oneOf<'utc' | 'localtime'>(['utc', 'localtime']);
export const parseDiskBus = oneOf<DiskBus>(['virtio', 'scsi', 'sata', 'usb']);
export const parseNicModel = oneOf<NicModel>(['virtio', 'e1000e', 'rtl8139']);
export const parseIoErrorPolicy = oneOf<IoErrorPolicy>(['stop', 'report']);
export const parseShimDeath = oneOf<ShimDeathPolicy>(['survive', 'kill']);
export const parseGuestEnd = oneOf<GuestEndPolicy>(['exit', 'restart', 'hold']);
export const parseWatchdogModel = oneOf<'none' | 'i6300esb'>(['none', 'i6300esb']);
export const parseWatchdogAction = oneOf<WatchdogAction>(['reset', 'pause', 'nmi', 'none']);
const parseVideoModel = oneOf<VideoModel>(['none', 'std', 'virtio']);

/** OpenStack images name `qxl` for SPICE, which is not here; every driver for it drives a standard VGA as well. */
export function parseVideo(text: string): VideoModel | undefined {
  return text === 'qxl' ? 'std' : parseVideoModel(text);
}

export const parseCpuPinning = oneOf<CpuPinning>(['shared', 'dedicated']);
export const parseNumaOverflow = oneOf<NumaOverflow>(['spread', 'float', 'refuse']);
export const parseNumaPlacement = oneOf<'auto' | 'none'>(['auto', 'none']);

/** `auto`, `none`, `spread`, a node's number, or `near:` and the name of a network interface. */
export function parseNumaChoice(text: string): NumaChoice | undefined {
  if (text === 'auto' || text === 'none' || text === 'spread') return { kind: text };
  if (/^\d{1,4}$/.test(text)) return { kind: 'node', node: Number(text) };
  const [, link] = /^near:([A-Za-z0-9_][A-Za-z0-9_.-]{0,14})$/.exec(text) ?? [];
  return link === undefined ? undefined : { kind: 'near', link };
}

/** The name of a model alone: features after a comma would be options of QEMU's that nobody looked at. */
export function parseCpuModel(text: string): CpuModel | undefined {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(text) ? text : undefined;
}

export function isVcpus(count: number): boolean {
  return Number.isInteger(count) && count >= 1 && count <= MAX_VCPUS;
}

function oneOf<T extends string>(words: readonly T[]): (text: string) => T | undefined {
  return (text) => words.find((word) => word === text);
}
