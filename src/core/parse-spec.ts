import { ANNOTATION_PREFIX, type AnnotationValues, parseAnnotations, parseVmName } from './annotations.ts';
import type { Config } from './config.ts';
import { VmError } from './errors.ts';
import { parseDisks } from './parse-disks.ts';
import { parseShared } from './parse-shared.ts';
import { parseGuestData } from './parse-guest-data.ts';
import { parseHugepages } from './parse-hugepages.ts';
import { parseMemory } from './parse-memory.ts';
import { parseCpus } from './parse-cpus.ts';
import { parseHardware } from './parse-hardware.ts';
import { identify, parseOwner } from './parse-owner.ts';
import { parseRootPlace } from './parse-root.ts';
import { parsePower } from './parse-power.ts';
import { MIB } from './quantity.ts';
import { show, SpecField } from './spec-field.ts';
import type {
  BootSource,
  CpuResources,
  FirmwareKind,
  MachineKind,
  NetworkSpec,
  VmOwner,
  VmSpec,
} from './vm-spec.ts';

const CPU_LIST = /^\d+(-\d+)?(,\d+(-\d+)?)*$/;

/**
 * Everything that is said about a VM, parsed: the OCI runtime spec (config.json, https://github.com/opencontainers/
 * runtime-spec) with its annotations, and the configuration. An annotation wins over a limit, a limit over a default.
 * Throws InvalidArgument with the field, its value and the remedy, whatever `spec` is.
 */
export function parseVmSpec(input: {
  readonly id: string;
  readonly namespace: string;
  readonly spec: unknown;
  readonly config: Config;
  /**
   * Whether the pod's sandbox has a network namespace of its own; without it the spec decides. A container's spec cannot:
   * containerd names the sandbox's `/proc/PID/ns/net` in it even with `hostNetwork`.
   */
  readonly podNetwork?: boolean;
}): VmSpec {
  const { id, namespace, config } = input;
  const spec = new SpecField(input.spec, 'config.json');
  const annotations = spec.at('annotations');
  const said = parseAnnotations(annotations.object() ?? {});
  const owner = parseOwner(annotations);
  const rootPlace = parseRootPlace(said, spec, owner);
  const identity = identify(owner, namespace, id, rootPlace);
  const resources = parseCpuResources(spec.at('linux').at('resources').at('cpu'));
  const machine = said.machine ?? config.defaults.machine;
  const hugepages = parseHugepages(spec.at('linux').at('resources').at('hugepageLimits'));
  const name = said.name ?? ownName(owner, id);
  const shared = parseShared(said['shared-directories'] ?? [], said.disks ?? [], spec, machine);
  return {
    id,
    namespace,
    name,
    uuid: identity.uuid,
    owner,
    ...parseCpus(said, resources, machine, config),
    ...parseMemory(said, spec.at('linux').at('resources').at('memory').at('limit'), {
      machine,
      hugepages,
      config,
    }),
    accel: said.accel ?? config.accel,
    machine,
    firmware: chooseFirmware(said, machine, config),
    hardware: parseHardware(said, machine),
    power: parsePower(said, machine),
    boot: parseBoot(said),
    network: parseNetwork(
      said,
      identity.mac,
      config,
      input.podNetwork ?? hasPodNetwork(owner, spec.at('linux').at('namespaces')),
    ),
    rootPlace,
    hugepageBytes: hugepages?.pageBytes,
    rootDiskBytes: said['root-size'] === undefined ? undefined : Math.ceil(said['root-size'] / MIB) * MIB,
    onShimDeath: said['on-shim-death'] ?? (owner.kind === 'pod' ? 'survive' : 'kill'),
    disks: parseDisks(said.disks ?? [], spec, machine, shared),
    shared,
    guestData: parseGuestData(said, spec, { name, namespace, owner }),
    oomScoreAdj: spec.at('process').at('oomScoreAdj').integer(-1000, 1000),
    cgroupsPath: parseCgroupsPath(spec.at('linux').at('cgroupsPath')),
    resources,
  };
}

function ownName(owner: VmOwner, id: string): string {
  return (owner.kind === 'pod' ? parseVmName(owner.name) : undefined) ?? id;
}

function parseCpuResources(cpu: SpecField): CpuResources {
  return {
    cpuShares: positive(cpu.at('shares').integer(0)),
    cpuQuota: positive(cpu.at('quota').integer(-1)),
    cpuPeriod: positive(cpu.at('period').integer(0)),
    cpusetCpus: cpuList(cpu.at('cpus')),
    cpusetMems: cpuList(cpu.at('mems')),
  };
}

/** 0 and -1 are how the OCI spec's writers say "no limit". */
function positive(value: number | undefined): number | undefined {
  return value !== undefined && value > 0 ? value : undefined;
}

function cpuList(field: SpecField): string | undefined {
  const list = field.text() ?? '';
  if (list === '') return undefined;
  if (!CPU_LIST.test(list)) throw field.invalid('a list of numbers and ranges such as "0-3,8"');
  return list;
}

function chooseFirmware(said: AnnotationValues, machine: MachineKind, config: Config): FirmwareKind {
  if (machine !== 'microvm') return said.firmware ?? config.defaults.firmware;
  if (said.firmware === undefined || said.firmware === 'bios') return 'bios';
  throw new VmError(
    'InvalidArgument',
    `annotation ${ANNOTATION_PREFIX}firmware is "${said.firmware}", which a microvm cannot boot: remove it or set ${ANNOTATION_PREFIX}machine to "q35"`,
  );
}

function parseBoot(said: AnnotationValues): BootSource {
  const { kernel, initrd, cmdline } = said;
  if (kernel !== undefined) {
    return {
      kind: 'kernel',
      kernel,
      initrd,
      cmdline: cmdline ?? '',
      disk: initrd === undefined ? 'required' : 'optional',
    };
  }
  for (const key of ['initrd', 'cmdline'] as const) {
    const value = said[key];
    if (value === undefined) continue;
    throw new VmError(
      'InvalidArgument',
      `annotation ${ANNOTATION_PREFIX}${key} is ${show(value)} but there is no kernel to give it to: set ${ANNOTATION_PREFIX}kernel as well`,
    );
  }
  return { kind: 'disk' };
}

function parseNetwork(
  said: AnnotationValues,
  mac: string,
  config: Config,
  inPodNetwork: boolean,
): NetworkSpec {
  const mode = said.network ?? (inPodNetwork ? 'pod' : config.defaults.network);
  const forwards = said['port-forwards'] ?? [];
  if (mode === 'user') return { mode, mac: said.mac ?? mac, forwards };
  if (forwards.length > 0) {
    throw new VmError(
      'InvalidArgument',
      `annotation ${ANNOTATION_PREFIX}port-forwards is set but the VM has ${mode === 'none' ? 'no network' : 'the pod’s network'}: set ${ANNOTATION_PREFIX}network to "user"`,
    );
  }
  if (mode === 'none') return { mode };
  if (!inPodNetwork) {
    throw new VmError(
      'InvalidArgument',
      `annotation ${ANNOTATION_PREFIX}network is "${mode}" but there is no pod network: set it to "user" or "none"`,
    );
  }
  const wanted = mode === 'pod' ? 'any' : mode;
  return { mode: 'pod', wanted, mac: said.mac, guard: parseGuard(said, config) };
}

function parseGuard(said: AnnotationValues, config: Config): boolean {
  if (said['spoof-guard'] !== 'off') return true;
  if (config.network.allowGuardOff) return false;
  throw new VmError(
    'InvalidArgument',
    `annotation ${ANNOTATION_PREFIX}spoof-guard is "off", which this node does not allow: remove it, or set network.allow_guard_off = true in the config file`,
  );
}

/** A pod with `hostNetwork` has no network namespace in its sandbox's spec. */
function hasPodNetwork(owner: VmOwner, namespaces: SpecField): boolean {
  return owner.kind === 'pod' && namespaces.items().some((entry) => entry.at('type').text() === 'network');
}

function parseCgroupsPath(field: SpecField): string | undefined {
  const path = field.text() ?? '';
  if (path === '') return undefined;
  if (path.includes('\0') || path.split('/').includes('..')) throw field.invalid('a path without ".."');
  return path;
}
