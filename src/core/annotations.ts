import { CPU_ANNOTATIONS } from './cpu-annotations.ts';
import { VmError } from './errors.ts';
import { MEMORY_ANNOTATIONS } from './memory-annotations.ts';
import { suggestName } from './nearest-name.ts';
import {
  isVcpus,
  MAX_VCPUS,
  parseAccel,
  parseClock,
  parseCpuModel,
  parseDiskBus,
  parseFirmware,
  parseGuestDataKind,
  parseGuestNetworkSource,
  parseGuestOs,
  parseIoErrorPolicy,
  parseMachine,
  parseNetworkMode,
  parseNicModel,
  parseRootFill,
  parseRootKey,
  parseShimDeath,
  parseSwitch,
  parseVideo,
} from './parse-choices.ts';
import {
  HOSTNAME_TYPE,
  META_TYPE,
  parseBase64,
  parseHostname,
  parseMeta,
  parseSshKeys,
  parseUserData,
  SSH_KEYS_TYPE,
} from './parse-guest-values.ts';
import { DISKS_TYPE, parseDiskEntries } from './parse-disk-entries.ts';
import { parseImagePath, parseMac } from './parse-names.ts';
import { parseSharedEntries, SHARED_TYPE } from './parse-shared.ts';
import { parsePortForwards } from './parse-port-forwards.ts';
import { POWER_ANNOTATIONS } from './power-annotations.ts';
import { parseQuantity } from './quantity.ts';
import { show } from './spec-field.ts';

export const ANNOTATION_PREFIX = 'vmshim.io/';

/** One annotation as the user meets it; the texts are what `docs/annotations.md` and the error messages say. */
export interface Annotation<T> {
  /** What a value is, as the end of a sentence: "give …". */
  readonly type: string;
  readonly default: string;
  readonly example: string;
  readonly description: string;
  /** The value may be a secret: no message shows it. */
  readonly secret?: true;
  /** White space around the value is part of it. */
  readonly verbatim?: true;
  /** Undefined for a malformed value. */
  readonly parse: (value: string) => T | undefined;
}

/** Everything a pod can say about its VM by annotation. */
export const ANNOTATIONS = {
  cpus: {
    type: `a whole number from 1 to ${MAX_VCPUS}`,
    default: 'the CPU limit, rounded up; without a limit `defaults.cpus` of the config file (1)',
    example: '2',
    description: 'Number of virtual CPUs.',
    parse: (value) => (/^\d{1,3}$/.test(value) && isVcpus(Number(value)) ? Number(value) : undefined),
  },
  ...MEMORY_ANNOTATIONS,
  machine: {
    type: 'q35 or microvm',
    default: '`defaults.machine` of the config file (q35)',
    example: 'microvm',
    description: 'Kind of machine: a PC with PCI, or the minimal one that starts faster.',
    parse: parseMachine,
  },
  firmware: {
    type: 'bios, uefi or uefi-secure',
    default: '`defaults.firmware` of the config file (bios); always bios for `microvm`',
    example: 'uefi',
    description:
      'Firmware that the guest boots with. `uefi-secure` starts only boot loaders that are signed for it.',
    parse: parseFirmware,
  },
  'cpu-model': {
    type: 'the name of a CPU model of QEMU, without features, or baseline',
    default: '`defaults.cpu_model` of the config file (default: the host’s CPU under KVM, `max` under TCG)',
    example: 'Skylake-Server-v4',
    description:
      'CPU that the guest sees. `baseline` is the same on every node with a processor of the last fifteen years (x86-64-v2).',
    parse: parseCpuModel,
  },
  accel: {
    type: 'auto, kvm or tcg',
    default: '`accel` of the config file (auto: KVM where the host has it)',
    example: 'kvm',
    description: 'How the guest’s instructions run: on the processor, or translated.',
    parse: parseAccel,
  },
  os: {
    type: 'linux or windows',
    default: 'linux',
    example: 'windows',
    description:
      'What the guest is. `windows` sets the defaults of `hyperv`, `clock` and `video`; see windows.md.',
    parse: parseGuestOs,
  },
  hyperv: {
    type: 'on or off',
    default: 'on for `os: windows`, else off',
    example: 'on',
    description: 'Whether a guest under KVM is offered the interfaces of Hyper-V.',
    parse: parseSwitch,
  },
  clock: {
    type: 'utc or localtime',
    default: 'localtime for `os: windows`, else utc',
    example: 'localtime',
    description: 'What the machine’s clock shows: UTC, or the time of the node’s time zone.',
    parse: parseClock,
  },
  video: {
    type: 'none, std, virtio or qxl',
    default: 'std for `os: windows`, else none',
    example: 'std',
    description:
      'Graphics card. With one come a USB tablet, `vmctl vnc` and `vmctl screenshot`. `qxl` means `std`: there is no SPICE.',
    parse: parseVideo,
  },
  'disk-bus': {
    type: 'virtio, scsi, sata or usb',
    default: 'virtio',
    example: 'sata',
    description:
      'How the root disk is attached; `scsi` is virtio-scsi, `sata` and `usb` need no driver of virtio’s.',
    parse: parseDiskBus,
  },
  'nic-model': {
    type: 'virtio, e1000e or rtl8139',
    default: 'virtio',
    example: 'e1000e',
    description:
      'Model of the network cards. What is not `virtio` has one queue, no vhost-net, and is many times slower.',
    parse: parseNicModel,
  },
  'on-shim-death': {
    type: 'survive or kill',
    default: 'survive in a pod, else kill',
    example: 'kill',
    description:
      'What becomes of the guest when its shim dies: it runs on until its pod’s next container takes it over, or ends with the shim. See adoption.md.',
    parse: parseShimDeath,
  },
  'on-io-error': {
    type: 'stop or report',
    default: 'stop',
    example: 'report',
    description:
      'What happens when a disk fails on the node: the guest stops until it works again, or sees the error. A full file system stops the guest in both cases.',
    parse: parseIoErrorPolicy,
  },
  ...CPU_ANNOTATIONS,
  ...POWER_ANNOTATIONS,
  network: {
    type: 'user, none, pod, tap or netns',
    default: 'pod, in a pod with a network; else `defaults.network` of the config file (user)',
    example: 'user',
    description:
      'Network of the guest: QEMU’s own, which needs no privileges; none; or the pod’s, by the way that its CNI plugin prepared (`pod`) or by one of the two ways only (`tap`, `netns`).',
    parse: parseNetworkMode,
  },
  'port-forwards': {
    type: 'a comma-separated list of protocol:[host IPv4 address]:host port:guest port, each host port once',
    default: 'none',
    example: 'tcp:127.0.0.1:8022:22,udp::5353:53',
    description:
      'Ports of the host that lead to the guest, for the network `user`. Without an address: on all addresses.',
    parse: parsePortForwards,
  },
  'spoof-guard': {
    type: 'on or off',
    default: 'on',
    example: 'off',
    description:
      'Whether the guest is held to the pod’s MAC and IP addresses and kept from being a router or DHCP server. `off` needs `network.allow_guard_off = true` in the config file.',
    parse: parseSwitch,
  },
  mac: {
    type: 'a unicast MAC address',
    default: '52 and five bytes that stay the same for the life of the pod',
    example: '52:54:00:12:34:56',
    description:
      'MAC address of the guest’s first network card. In a pod’s network the CNI plugin decides it: `vm-tap` takes this one, see docs/cni.md; with any other plugin it must be the one that the pod’s link has.',
    parse: parseMac,
  },
  'root-size': {
    type: 'a Kubernetes quantity of bytes above 0',
    default: 'the size of the image’s disk',
    example: '20Gi',
    description: 'Size of the root disk when larger than the image’s own, rounded up to a multiple of 1 MiB.',
    parse: (value) => parseQuantity(value) || undefined,
  },
  'root-key': {
    type: 'uid or name',
    default: 'uid',
    example: 'name',
    description:
      'What a pod’s root disk is kept by on its node: the pod’s UID, or its namespace and name, so that the next pod of that name has it again.',
    parse: parseRootKey,
  },
  'root-fill': {
    type: 'once or never',
    default: 'once',
    example: 'never',
    description:
      'Whether a blank block volume for the root disk is filled from the image, or whatever is on the volume is booted as it is.',
    parse: parseRootFill,
  },
  disks: {
    type: DISKS_TYPE,
    default: 'every block volume, every volume with a disk.img, every ConfigMap and Secret',
    example: '[{"name": "scratch", "empty": "10Gi"}]',
    description:
      'Disks beside the root disk: empty ones, those of the node, CD-ROMs, and how the pod’s volumes are seen. See storage.md.',
    parse: parseDiskEntries,
  },
  'shared-directories': {
    type: SHARED_TYPE,
    default: 'none',
    example: '[{"volume": "/data"}]',
    description:
      'Volumes that the guest mounts as directories, by virtiofs, instead of as disks. See storage.md.',
    parse: parseSharedEntries,
  },
  kernel: {
    type: 'an absolute path in the image, without ".."',
    default: 'none: the guest boots from its disk',
    example: '/boot/vmlinuz',
    description: 'Kernel in the image that is booted directly.',
    parse: parseImagePath,
  },
  initrd: {
    type: 'an absolute path in the image, without ".."',
    default: 'none',
    example: '/boot/initrd.img',
    description: 'Initial RAM disk for `kernel`. With one the image needs no disk.',
    parse: parseImagePath,
  },
  cmdline: {
    type: 'at most 2047 printable characters',
    default: 'empty',
    example: 'console=ttyS0 root=/dev/vda1',
    description: 'Command line for `kernel`.',
    parse: (value) => (/^[^\p{Cc}]{0,2047}$/u.test(value) ? value : undefined),
  },
  name: {
    type: 'at most 253 letters, digits, dots, dashes and underscores, the first a letter or digit',
    default: 'the name of the pod; without a pod the id of the container',
    example: 'web-1',
    description: 'Name of the VM, for the guest and for `ps`.',
    parse: parseVmName,
  },
  'guest-data': {
    type: 'config-drive, config-drive-iso, nocloud or none',
    default: 'config-drive',
    example: 'nocloud',
    description:
      'How the guest gets the data it configures itself with: OpenStack’s config drive as vfat or as ISO 9660, cloud-init’s NoCloud drive, or not at all. See guest-data.md.',
    parse: parseGuestDataKind,
  },
  'user-data': {
    type: 'text of at most 10 MiB',
    default: 'none',
    example: '#cloud-config',
    description:
      'User data, given to the guest byte for byte: a script, `#cloud-config`, MIME multipart, Ignition.',
    secret: true,
    verbatim: true,
    parse: (value) => parseUserData(new TextEncoder().encode(value)),
  },
  'user-data-base64': {
    type: 'base64 of at most 10 MiB',
    default: 'none',
    example: 'I2Nsb3VkLWNvbmZpZwo=',
    description: 'User data that is no text, or that has to be packed.',
    secret: true,
    parse: parseBase64,
  },
  'vendor-data': {
    type: 'text; a JSON object stands for OpenStack’s vendor_data.json',
    default: 'none',
    example: '#cloud-config',
    description: 'Vendor data: what cloud-init applies before the user data.',
    secret: true,
    verbatim: true,
    parse: (value) => value,
  },
  'ssh-keys': {
    type: SSH_KEYS_TYPE,
    default: 'none',
    example: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPoo9bLxdKlQDBnr2BDaBlNzTFI0ZwWBlTpZD0tqbc5h me',
    description: 'Public keys for the guest’s default user, besides those of volumes.',
    parse: parseSshKeys,
  },
  hostname: {
    type: HOSTNAME_TYPE,
    default: 'the VM’s name',
    example: 'web-1.shop.example',
    description: 'Host name of the guest.',
    parse: parseHostname,
  },
  meta: {
    type: META_TYPE,
    default: 'none',
    example: '{"role": "web"}',
    description: 'What OpenStack calls the properties of a server; the guest finds them in its meta data.',
    secret: true,
    parse: parseMeta,
  },
  'availability-zone': {
    type: 'at most 255 printable characters',
    default: 'nova',
    example: 'zone-a',
    description: 'Availability zone that the guest’s meta data names.',
    parse: (value) => (/^[^\p{Cc}]{1,255}$/u.test(value) ? value : undefined),
  },
  'guest-network': {
    type: 'static or dhcp',
    default: 'static',
    example: 'dhcp',
    description:
      'Whether the drive carries the guest’s addresses and routes, or tells the guest to ask for them by DHCP.',
    parse: parseGuestNetworkSource,
  },
} as const satisfies Record<string, Annotation<unknown>>;

/** Written by operators and the node agent for each other while the VM runs; a spec may carry them along. */
export const AGENT_KEYS: readonly string[] = ['power-request', 'power-status'];

type Table = typeof ANNOTATIONS;
export type AnnotationKey = keyof Table;
export type AnnotationValues = {
  readonly [K in AnnotationKey]?: Exclude<ReturnType<Table[K]['parse']>, undefined>;
};

/**
 * Reads all annotations under our prefix, ignores all others. Throws InvalidArgument for a key that is not in the table
 * and for a malformed value, with the remedy.
 */
export function parseAnnotations(annotations: Readonly<Record<string, unknown>>): AnnotationValues {
  const values: Partial<Record<AnnotationKey, unknown>> = {};
  for (const [name, value] of Object.entries(annotations)) {
    if (!name.startsWith(ANNOTATION_PREFIX)) continue;
    const key = name.slice(ANNOTATION_PREFIX.length);
    if (AGENT_KEYS.includes(key)) continue;
    if (!isKnown(key))
      throw new VmError('InvalidArgument', `unknown annotation ${show(name)}; ${suggest(key)}`);
    const annotation: Annotation<unknown> = ANNOTATIONS[key];
    const parsed =
      typeof value === 'string'
        ? annotation.parse(annotation.verbatim === true ? value : value.trim())
        : undefined;
    if (parsed === undefined) {
      const is = annotation.secret === true ? 'not what it must be' : show(value);
      throw new VmError(
        'InvalidArgument',
        `annotation ${name} is ${is}; give ${annotation.type}, such as "${annotation.example}"`,
      );
    }
    values[key] = parsed;
  }
  return values as AnnotationValues;
}

/** A name that is safe wherever the VM's name goes. */
export function parseVmName(value: string): string | undefined {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/.test(value) ? value : undefined;
}

function isKnown(key: string): key is AnnotationKey {
  return Object.hasOwn(ANNOTATIONS, key);
}

function suggest(key: string): string {
  const known = Object.keys(ANNOTATIONS).map((name) => ANNOTATION_PREFIX + name);
  return suggestName(ANNOTATION_PREFIX + key, known);
}
