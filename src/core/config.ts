import { parse, TomlError } from 'smol-toml';
import { parseCpuList } from './cpu-list.ts';
import { VmError } from './errors.ts';
import { type MonitorAddress, parseMonitorList } from './monitor-address.ts';
import { suggestName } from './nearest-name.ts';
import {
  isVcpus,
  MAX_VCPUS,
  parseAccel,
  parseCpuModel,
  parseFirmware,
  type KeepBase,
  parseKeepBase,
  parseMachine,
  parseNumaOverflow,
  parseNumaPlacement,
  type BareNetworkMode,
  parseBareNetworkMode,
} from './parse-choices.ts';
import { formatBytes, MIB, parseQuantity } from './quantity.ts';
import { show } from './spec-field.ts';
import { type TomlLines, tomlLines } from './toml-lines.ts';
import type { AccelChoice, CpuModel, FirmwareKind, MachineKind, NumaOverflow } from './vm-spec.ts';

/** What the node's administrator decides, complete: every key has a default. */
export interface Config {
  /** Absolute path of qemu-system-x86_64. */
  readonly qemu: string;
  /** Absolute path of qemu-img. */
  readonly qemuImg: string;
  readonly accel: AccelChoice;
  /** Volatile state; gone after a reboot of the node. */
  readonly stateDir: string;
  /** Persistent state: disks. */
  readonly dataDir: string;
  /**
   * Version of the answer to containerd's `start`: 2 works from 1.7 on, 3 from 2.0 on. Undefined: 3 where the call itself
   * proves that containerd knows it.
   */
  readonly bootstrapVersion: 2 | 3 | undefined;
  /** Whether images below pods' disks are kept beside them: where that costs no space, by a copy else, or not at all. */
  readonly keepBase: KeepBase;
  /** kubelet's directory; what it keeps there of a pod tells whether the pod is still meant to be on this node. */
  readonly kubeletDir: string;
  /** Absolute path of virtiofsd; undefined looks where distributions have it. */
  readonly virtiofsd: string | undefined;
  /** Directories and files of the node that pods may have as disks. */
  readonly hostDisks: readonly string[];
  /** Whether a VM's own cgroup is limited to its RAM and twice what is expected beside it. */
  readonly limitMemory: boolean;
  /** Ceph's block devices, for disks that QEMU opens itself. */
  readonly rbd: {
    /** The clusters' monitors, which are all that a pod's disk may name; none: no such disks. */
    readonly monitors: readonly MonitorAddress[];
    /** Network namespace from which they are reached, /run/netns/NAME; undefined: the node's own. */
    readonly netns: string | undefined;
    /** How long Ceph may take to open a disk, in seconds. */
    readonly timeout: number;
  };
  readonly console: {
    /** Size in bytes at which the console log is rotated. */
    readonly logBytes: number;
    /** Files of console log that are kept per VM, the current one included. */
    readonly logFiles: number;
  };
  readonly network: {
    /** Whether a pod may turn the spoof guard off by annotation. */
    readonly allowGuardOff: boolean;
  };
  /** A guest whose shim has died, until another one takes it over. In seconds. */
  readonly orphan: {
    /** How long it may wait. */
    readonly deadline: number;
    /** How long it may take to power itself off after that. */
    readonly grace: number;
  };
  /** Absolute paths of the UEFI firmware and of the template for its variables; the same with Secure Boot. */
  readonly firmware: {
    readonly uefiCode: string;
    readonly uefiVars: string;
    readonly uefiSecureCode: string;
    readonly uefiSecureVars: string;
  };
  readonly numa: NumaConfig;
  /** What a VM gets where neither its annotations nor its limits say otherwise. */
  readonly defaults: {
    readonly machine: MachineKind;
    readonly cpus: number;
    readonly memoryBytes: number;
    readonly cpuModel: CpuModel;
    readonly firmware: FirmwareKind;
    /** For bare containers and pods in the node's own network. */
    readonly network: BareNetworkMode;
  };
}

/** How VMs are placed on the memory nodes of the host. */
export interface NumaConfig {
  /** What a VM without the annotation gets. */
  readonly placement: 'auto' | 'none';
  /** vCPUs per CPU of a node; above 1 CPUs are oversubscribed. */
  readonly cpuThreshold: number;
  /** Part of a node's memory that VMs may take, from 0 to 1. */
  readonly memoryThreshold: number;
  /** What becomes of a VM that fits no single node. */
  readonly overflow: NumaOverflow;
  /** CPUs for VMs that ask for CPUs of their own; no other VM gets them. */
  readonly dedicatedCpus: readonly number[];
}

/** One key: what a value is (the end of "must be …"), and its reader, which gives undefined for a wrong value. */
interface Key<T> {
  readonly type: string;
  readonly fallback: T;
  readonly parse: (value: unknown) => T | undefined;
}

/** The keys of the file. A nested record is a table. */
const SCHEMA = {
  qemu: path('/usr/bin/qemu-system-x86_64'),
  qemu_img: path('/usr/bin/qemu-img'),
  accel: word('auto, kvm or tcg', 'auto', parseAccel),
  state_dir: path('/run/vmshim'),
  data_dir: path('/var/lib/vmshim'),
  bootstrap_version: {
    type: '2 or 3',
    fallback: undefined as 2 | 3 | undefined,
    parse: (value: unknown) => (value === 2 || value === 3 ? value : undefined),
  },
  keep_base: word('free, copy or off', 'free', parseKeepBase),
  kubelet_dir: path('/var/lib/kubelet'),
  virtiofsd: optional(path('')),
  host_disks: paths(),
  limit_memory: flag(true),
  rbd: {
    monitors: {
      type: 'a list of monitors such as "10.0.0.1:6789"',
      fallback: [] as readonly MonitorAddress[],
      parse: (value: unknown) => (Array.isArray(value) && value.length === 0 ? [] : parseMonitorList(value)),
    },
    netns: optional(path('')),
    timeout: number('a whole number of seconds from 1 to 100', 30, (n) => n >= 1 && n <= 100),
  },
  console: {
    log_bytes: bytes('8Mi', 64 << 10),
    log_files: number('a whole number from 1 to 100', 2, (n) => n >= 1 && n <= 100),
  },
  network: { allow_guard_off: flag(false) },
  orphan: { deadline: seconds(600), grace: seconds(60) },
  firmware: {
    uefi_code: path('/usr/share/OVMF/OVMF_CODE_4M.fd'),
    uefi_vars: path('/usr/share/OVMF/OVMF_VARS_4M.fd'),
    uefi_secure_code: path('/usr/share/OVMF/OVMF_CODE_4M.secboot.fd'),
    // With the keys of Microsoft enrolled, by which the loaders of Windows and of most distributions are signed.
    uefi_secure_vars: path('/usr/share/OVMF/OVMF_VARS_4M.ms.fd'),
  },
  numa: {
    placement: word('auto or none', 'auto' as const, parseNumaPlacement),
    cpu_threshold: fraction('a number above 0, at most 64', 4, 64),
    memory_threshold: fraction('a number above 0, at most 1', 0.9, 1),
    overflow: word('spread, float or refuse', 'spread', parseNumaOverflow),
    dedicated_cpus: {
      type: 'a list of CPUs such as "4-15,20"',
      fallback: [] as readonly number[],
      parse: (value: unknown) => (typeof value === 'string' ? parseCpuList(value) : undefined),
    },
  },
  defaults: {
    machine: word('q35 or microvm', 'q35', parseMachine),
    cpus: number(`a whole number from 1 to ${MAX_VCPUS}`, 1, isVcpus),
    memory: bytes('512Mi', 32 * MIB),
    cpu_model: word('the name of a CPU model of QEMU, without features', 'default', parseCpuModel),
    firmware: word('bios, uefi or uefi-secure', 'bios', parseFirmware),
    network: word('user or none', 'user', parseBareNetworkMode),
  },
};

/**
 * Reads a configuration file (TOML 1.0). `origin` is how messages name it, normally its path. Throws InvalidArgument
 * that begins with origin and line, for what is no TOML, for unknown keys and for wrong values.
 */
export function parseConfig(toml: string, origin: string): Config {
  const root = new Table(parseToml(toml, origin), [], {
    origin,
    // Looked for only when there is something to complain about.
    lineOf: (path) => tomlLines(toml)(path),
  });
  root.expectOnly(SCHEMA);
  const [log, firmware, defaults] = [root.table('console'), root.table('firmware'), root.table('defaults')];
  const [network, orphan] = [root.table('network'), root.table('orphan')];
  const [numa, rbd] = [root.table('numa'), root.table('rbd')];
  rbd.expectOnly(SCHEMA.rbd);
  log.expectOnly(SCHEMA.console);
  network.expectOnly(SCHEMA.network);
  orphan.expectOnly(SCHEMA.orphan);
  firmware.expectOnly(SCHEMA.firmware);
  numa.expectOnly(SCHEMA.numa);
  defaults.expectOnly(SCHEMA.defaults);
  return {
    qemu: root.read('qemu', SCHEMA.qemu),
    qemuImg: root.read('qemu_img', SCHEMA.qemu_img),
    accel: root.read('accel', SCHEMA.accel),
    stateDir: root.read('state_dir', SCHEMA.state_dir),
    dataDir: root.read('data_dir', SCHEMA.data_dir),
    keepBase: root.read('keep_base', SCHEMA.keep_base),
    kubeletDir: root.read('kubelet_dir', SCHEMA.kubelet_dir),
    bootstrapVersion: root.read('bootstrap_version', SCHEMA.bootstrap_version),
    virtiofsd: root.read('virtiofsd', SCHEMA.virtiofsd),
    hostDisks: root.read('host_disks', SCHEMA.host_disks),
    limitMemory: root.read('limit_memory', SCHEMA.limit_memory),
    rbd: {
      monitors: rbd.read('monitors', SCHEMA.rbd.monitors),
      netns: rbd.read('netns', SCHEMA.rbd.netns),
      timeout: rbd.read('timeout', SCHEMA.rbd.timeout),
    },
    console: {
      logBytes: log.read('log_bytes', SCHEMA.console.log_bytes),
      logFiles: log.read('log_files', SCHEMA.console.log_files),
    },
    network: { allowGuardOff: network.read('allow_guard_off', SCHEMA.network.allow_guard_off) },
    orphan: {
      deadline: orphan.read('deadline', SCHEMA.orphan.deadline),
      grace: orphan.read('grace', SCHEMA.orphan.grace),
    },
    firmware: {
      uefiCode: firmware.read('uefi_code', SCHEMA.firmware.uefi_code),
      uefiVars: firmware.read('uefi_vars', SCHEMA.firmware.uefi_vars),
      uefiSecureCode: firmware.read('uefi_secure_code', SCHEMA.firmware.uefi_secure_code),
      uefiSecureVars: firmware.read('uefi_secure_vars', SCHEMA.firmware.uefi_secure_vars),
    },
    numa: {
      placement: numa.read('placement', SCHEMA.numa.placement),
      cpuThreshold: numa.read('cpu_threshold', SCHEMA.numa.cpu_threshold),
      memoryThreshold: numa.read('memory_threshold', SCHEMA.numa.memory_threshold),
      overflow: numa.read('overflow', SCHEMA.numa.overflow),
      dedicatedCpus: numa.read('dedicated_cpus', SCHEMA.numa.dedicated_cpus),
    },
    defaults: {
      machine: defaults.read('machine', SCHEMA.defaults.machine),
      cpus: defaults.read('cpus', SCHEMA.defaults.cpus),
      memoryBytes: defaults.read('memory', SCHEMA.defaults.memory),
      cpuModel: defaults.read('cpu_model', SCHEMA.defaults.cpu_model),
      firmware: defaults.read('firmware', SCHEMA.defaults.firmware),
      network: defaults.read('network', SCHEMA.defaults.network),
    },
  };
}

function parseToml(toml: string, origin: string): unknown {
  try {
    return parse(toml);
  } catch (error) {
    if (!(error instanceof TomlError)) throw VmError.from(error, origin);
    const [reason = ''] = error.message.split('\n');
    throw new VmError('InvalidArgument', `${origin}:${error.line}: ${reason}`, { cause: error });
  }
}

/** One table of the file, to be read by the schema. */
class Table {
  readonly #value: object;
  readonly #path: readonly string[];
  readonly #file: { readonly origin: string; readonly lineOf: TomlLines };

  constructor(value: unknown, path: readonly string[], file: { origin: string; lineOf: TomlLines }) {
    this.#path = path;
    this.#file = file;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw this.#wrong(path, `${path.join('.')} must be a table, but is ${show(value)}`);
    }
    this.#value = value;
  }

  expectOnly(schema: object): void {
    for (const key of Object.keys(this.#value)) {
      if (Object.hasOwn(schema, key)) continue;
      const hint = suggestName(key, Object.keys(schema));
      throw this.#wrong([...this.#path, key], `unknown key ${show([...this.#path, key].join('.'))}; ${hint}`);
    }
  }

  table(key: string): Table {
    return new Table(this.#get(key) ?? {}, [...this.#path, key], this.#file);
  }

  read<T>(key: string, expected: Key<T>): T {
    const value = this.#get(key);
    if (value === undefined) return expected.fallback;
    const parsed = expected.parse(value);
    if (parsed !== undefined) return parsed;
    const path = [...this.#path, key];
    throw this.#wrong(path, `${path.join('.')} must be ${expected.type}, but is ${show(value)}`);
  }

  #get(key: string): unknown {
    return Object.entries(this.#value).find(([name]) => name === key)?.[1];
  }

  #wrong(path: readonly string[], message: string): VmError {
    return new VmError('InvalidArgument', `${this.#file.origin}:${this.#file.lineOf(path)}: ${message}`);
  }
}

function optional<T>(key: Key<T>): Key<T | undefined> {
  return { ...key, fallback: undefined };
}

function path(fallback: string): Key<string> {
  return {
    type: 'an absolute path without ".."',
    fallback,
    parse: (value) => (isPath(value) ? value : undefined),
  };
}

/** None by default. */
function paths(): Key<readonly string[]> {
  return {
    type: 'a list of absolute paths without ".."',
    fallback: [],
    parse: (value) =>
      Array.isArray(value) && value.every(isPath) ? value.map((path) => path.replace(/\/+$/, '')) : undefined,
  };
}

function isPath(value: unknown): value is string {
  return typeof value === 'string' && /^\/[^\p{Cc}]+$/u.test(value) && !value.split('/').includes('..');
}

function word<T extends string>(type: string, fallback: T, parse: (text: string) => T | undefined): Key<T> {
  return { type, fallback, parse: (value) => (typeof value === 'string' ? parse(value) : undefined) };
}

function flag(fallback: boolean): Key<boolean> {
  return {
    type: 'true or false',
    fallback,
    parse: (value) => (typeof value === 'boolean' ? value : undefined),
  };
}

function number(type: string, fallback: number, accepts: (value: number) => boolean): Key<number> {
  return {
    type,
    fallback,
    parse: (value) =>
      typeof value === 'number' && Number.isInteger(value) && accepts(value) ? value : undefined,
  };
}

function fraction(type: string, fallback: number, most: number): Key<number> {
  return {
    type,
    fallback,
    parse: (value) => (typeof value === 'number' && value > 0 && value <= most ? value : undefined),
  };
}

/** At most a day: what a timer can wait is 24 of them. */
function seconds(fallback: number): Key<number> {
  return number('a whole number of seconds from 1 to 86400', fallback, (n) => n >= 1 && n <= 86_400);
}

/** A quantity as text, or a number of bytes. */
function bytes(fallback: string, least: number): Key<number> {
  const parse = (value: unknown): number | undefined => {
    const amount =
      typeof value === 'number' || typeof value === 'string' ? parseQuantity(String(value)) : undefined;
    return amount !== undefined && amount >= least ? amount : undefined;
  };
  return {
    type: `a quantity of at least ${formatBytes(least)}, such as "${fallback}"`,
    fallback: parse(fallback) ?? least,
    parse,
  };
}
