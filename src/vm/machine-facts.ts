import type { VmSpec } from '../core/vm-spec.ts';
import type { Cgroup } from '../host/cgroup-plan.ts';
import type { AccelVerdict } from '../qemu/accel.ts';
import type { QemuProcess } from '../qemu/process.ts';
import type { QemuVersion } from '../qemu/qemu-version.ts';
import type { BootFiles } from './boot-files.ts';
import type { GuestNics } from './guest-nics.ts';
import type { MachineFacts } from './machine-parts.ts';
import type { MachinePlace } from './place-machine.ts';
import type { PortForward } from './port-forward.ts';
import type { SharedDirectories } from './shared-directories.ts';
import type { VmDisks } from './vm-disks.ts';

interface FactParts {
  readonly files: BootFiles;
  readonly disks: VmDisks;
  readonly shared: SharedDirectories;
  readonly nics: GuestNics;
  readonly accel: AccelVerdict;
  readonly version: QemuVersion;
  readonly cgroup: Cgroup;
  readonly place: MachinePlace;
  readonly spec: VmSpec;
  readonly qemu: QemuProcess;
  readonly forward: PortForward;
  /** Said of a memory limit that is too small. */
  readonly scarce: string | undefined;
}

/** What was decided while a machine was made, for people. */
export function facts({
  files,
  disks,
  shared,
  nics,
  accel,
  version,
  cgroup,
  spec,
  qemu,
  forward,
  place,
  scarce,
}: FactParts): MachineFacts {
  return {
    accel: accel.accel,
    accelReason: accel.reason,
    machineType: spec.machine === 'microvm' ? 'microvm' : version.q35,
    qemuVersion: `${version.major}.${version.minor}.${version.micro}`,
    rootDisk: files.rootDiskPath ?? 'none',
    disks: disks.facts,
    shared: shared.facts,
    network: nics.summary,
    numa: place.plan.summary,
    cgroup,
    warnings: [
      ...(accel.warn ? [accel.reason] : []),
      ...files.notes,
      ...(place.plan.warning === undefined ? [] : [place.plan.warning]),
      ...(scarce === undefined ? [] : [scarce]),
      ...disks.warnings,
      ...forward.warnings,
      ...qemu.log.readWarnings(),
    ],
  };
}
