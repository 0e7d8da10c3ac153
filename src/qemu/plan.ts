import { VmError } from '../core/errors.ts';
import { type QemuOption, renderOption } from './option.ts';
import { planBoot } from './plan-boot.ts';
import { planConsole } from './plan-console.ts';
import { planControllers } from './plan-controllers.ts';
import { planDisk } from './plan-disk.ts';
import { planDisplay } from './plan-display.ts';
import { type FdRole, fdNumber, planFds } from './plan-fds.ts';
import { planGuestDevices } from './plan-guest-devices.ts';
import { planGuestDrive } from './plan-guest-drive.ts';
import { planMachine } from './plan-machine.ts';
import { planNetwork } from './plan-network.ts';
import { planVolumes } from './plan-volumes.ts';
import { planShared } from './plan-shared.ts';
import type { QemuInput } from './qemu-input.ts';

export interface QemuCommand {
  /** argv without argv[0]. */
  readonly args: readonly string[];
  /** `fds[i]` becomes descriptor 3 + i of QEMU. */
  readonly fds: readonly FdRole[];
}

/**
 * QEMU's command line for a VM, for QEMU 7.2 and later. Throws InvalidArgument where the spec asks for what QEMU
 * cannot do or holds a value that would not stay one value on a command line.
 */
export function planQemu(input: QemuInput): QemuCommand {
  refuseContradictions(input);
  const fds = planFds(input);
  return { args: planOptions(input, fds).flatMap(renderOption), fds };
}

function planOptions(input: QemuInput, fds: readonly FdRole[]): QemuOption[] {
  const fd = fdNumber(fds);
  return [
    ...planMachine(input),
    ...planConsole(fd),
    ...planBoot(input, fd),
    ...planControllers(input),
    ...planDisk(input, fd),
    ...planVolumes(input, fd),
    ...planGuestDrive(input, fd),
    ...planShared(input, fd),
    ...planNetwork(input, fd),
    ...planGuestDevices(input),
    ...planDisplay(input),
  ];
}

function refuseContradictions({ spec, rootDisk, machineType }: QemuInput): void {
  if (rootDisk === undefined && (spec.boot.kind === 'disk' || spec.boot.disk === 'required')) {
    throw new VmError(
      'InvalidArgument',
      'the VM has no disk to boot from; use an image with a file in /disk',
    );
  }
  const known = spec.machine === 'microvm' ? /^microvm$/ : /^(pc-q35-\d+\.\d+|q35)$/;
  if (!known.test(machineType)) {
    throw new VmError(
      'InvalidArgument',
      `machine type ${JSON.stringify(machineType)} is no ${spec.machine}; use a type that "qemu-system-x86_64 -machine help" lists`,
    );
  }
}
