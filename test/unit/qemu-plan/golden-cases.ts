import { readdirSync, readFileSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import type { HardwareSpec } from '../../../src/core/hardware-spec.ts';
import type { VmSpec } from '../../../src/core/vm-spec.ts';
import type { QemuInput } from '../../../src/qemu/qemu-input.ts';

/** What a golden case leaves unsaid: a pod's VM with an image, under KVM. */
export const baseInput: QemuInput = {
  spec: {
    id: 'c0ffee',
    namespace: 'k8s.io',
    name: 'web-0',
    uuid: '5f0c8b1e-6f1c-4a2e-9d36-2f8a3c1d7e90',
    owner: { kind: 'container' },
    vcpus: 2,
    maxVcpus: 2,
    vcpusFollowLimit: true,
    memoryBytes: 512 * 1024 * 1024,
    maxMemoryBytes: 512 * 1024 * 1024,
    memoryFollowsLimit: true,
    memoryLimitBytes: undefined,
    cpuModel: 'default',
    nested: false,
    accel: 'auto',
    machine: 'q35',
    firmware: 'bios',
    hardware: {
      hyperv: false,
      clock: 'utc',
      video: 'none',
      diskBus: 'virtio',
      nicModel: 'virtio',
      onIoError: 'stop',
      watchdog: undefined,
    },
    power: { onPoweroff: 'exit', onReboot: 'restart', onCrash: 'exit' },
    boot: { kind: 'disk' },
    network: { mode: 'none' },
    rootPlace: { kind: 'own' },
    numa: { kind: 'auto' },
    cpuPinning: 'shared',
    hugepageBytes: undefined,
    rootDiskBytes: undefined,
    disks: [],
    onShimDeath: 'kill',
    shared: [],
    guestData: {
      kind: 'config-drive',
      hostname: 'web-0',
      availabilityZone: 'nova',
      projectId: 'default',
      userData: undefined,
      vendorData: undefined,
      meta: {},
      sshKeys: [],
      env: [],
      network: 'static',
      volumes: [],
    },
    oomScoreAdj: undefined,
    cgroupsPath: undefined,
    resources: {
      cpuShares: undefined,
      cpuQuota: undefined,
      cpuPeriod: undefined,
      cpusetCpus: undefined,
      cpusetMems: undefined,
    },
  },
  accel: 'kvm',
  machineType: 'pc-q35-7.2',
  ram: { kind: 'whole', host: undefined },
  rootDisk: { format: 'qcow2', base: { format: 'qcow2' }, cache: 'writeback' },
  guestDrive: false,
  volumes: [],
  nics: [],
  firmware: { kind: 'bios' },
  aio: 'io_uring',
};

const directory = join(import.meta.dirname, 'golden');

export interface GoldenCase {
  readonly name: string;
  readonly input: QemuInput;
}

/** Path of what a case must come to: the command line, or the refusal. */
export function goldenPath(name: string, kind: 'args' | 'err'): string {
  return join(directory, `${name}.${kind}`);
}

/**
 * `golden/<name>.json` says how a case differs from `baseInput`: top-level fields replace, `spec` and `spec.hardware`
 * are merged field by field, and null is what the input calls undefined.
 */
export function goldenCases(): GoldenCase[] {
  return goldenFiles('.json').map((name) => {
    const text = readFileSync(join(directory, `${name}.json`), 'utf8');
    const { spec, ...rest } = JSON.parse(text) as Difference;
    const hardware = { ...baseInput.spec.hardware, ...spec?.hardware };
    const vcpus = spec?.vcpus ?? baseInput.spec.vcpus;
    const memoryBytes = spec?.memoryBytes ?? baseInput.spec.memoryBytes;
    const input = {
      ...baseInput,
      ...rest,
      spec: { ...baseInput.spec, maxVcpus: vcpus, maxMemoryBytes: memoryBytes, ...spec, hardware },
    };
    return {
      name,
      input: { ...input, rootDisk: rest.rootDisk === null ? undefined : input.rootDisk } as QemuInput,
    };
  });
}

interface Difference extends Omit<Partial<QemuInput>, 'spec' | 'rootDisk'> {
  readonly spec?: Partial<Omit<VmSpec, 'hardware'>> & { readonly hardware?: Partial<HardwareSpec> };
  readonly rootDisk?: QemuInput['rootDisk'] | null;
}

/** Names without extension of the files in `golden/`, sorted. */
export function goldenFiles(extension: '.json' | '.args' | '.err'): string[] {
  return readdirSync(directory)
    .filter((file) => extname(file) === extension)
    .map((file) => basename(file, extension))
    .toSorted();
}
