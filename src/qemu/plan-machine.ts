import type { QemuOption } from './option.ts';
import { planAccel } from './plan-accel.ts';
import { boardMemory, planMemory } from './plan-memory.ts';
import { planCpu } from './plan-cpu.ts';
import type { QemuInput } from './qemu-input.ts';

/** Process, board, CPU, memory and clock. */
export function planMachine(input: QemuInput): QemuOption[] {
  const { spec } = input;
  return [
    // Thread names make `ps -L` and perf tell vCPUs from I/O threads.
    { flag: '-name', keys: { guest: spec.name, 'debug-threads': true } },
    { flag: '-uuid', text: spec.uuid },
    { flag: '-no-user-config' },
    { flag: '-nodefaults' },
    { flag: '-display', text: 'none' },
    // Nothing of the guest runs before it is placed on its CPUs, memory and network; `cont` starts it.
    { flag: '-S' },
    // A guest that powers off leaves a QEMU that a reset can boot again. Never with -action, which breaks that reset.
    { flag: '-no-shutdown' },
    // Where a guest's reboot is more than a reset in place, QEMU tells of it and stops; so it does for a microvm, which has no
    // other end, and at `panic=`.
    ...(spec.power.onReboot === 'restart' ? [] : [{ flag: '-no-reboot' } as const]),
    // QEMU starts unprivileged already, so it needs neither setuid nor children.
    {
      flag: '-sandbox',
      head: 'on',
      keys: { obsolete: 'deny', elevateprivileges: 'deny', spawn: 'deny', resourcecontrol: 'deny' },
    },
    { flag: '-machine', head: input.machineType, keys: boardKeys(input) },
    planAccel(input),
    planCpu(input),
    ...planMemory(input),
    ...clock(input),
  ];
}

function boardKeys(input: QemuInput): Record<string, string | boolean> {
  const { firmware } = input;
  const common = {
    ...boardMemory(input),
    // A core file of a crashed QEMU would carry the guest's memory onto the node's disk.
    'dump-guest-core': false,
  };
  switch (input.spec.machine) {
    case 'q35':
      return {
        ...common,
        // Devices nobody drives: less for a hostile guest to attack, and less for firmware to probe. The HPET costs
        // an exit to QEMU per tick where it is the clock; guests have the TSC, kvmclock or the ACPI timer.
        hpet: false,
        sata: false,
        smbus: false,
        vmport: false,
        ...(firmware.kind !== 'bios' && { pflash0: 'firmware-code', pflash1: 'firmware-vars' }),
        // Where firmware hides what the guest's kernel may not write.
        ...(firmware.kind === 'uefi-secure' && { smm: true }),
      };
    case 'microvm':
      // With ACPI the kernel finds CPUs and virtio transports in tables, but then looks at neither PIT nor PM timer
      // and hangs without a paravirtual clock, which TCG has not. Without ACPI the PIT is the clock; firmware leaves
      // an MP table and QEMU names the transports on the kernel's command line. Kernels without X86_MPPARSE and
      // VIRTIO_MMIO_CMDLINE_DEVICES (Debian's, for one) then see one CPU and no virtio device.
      return {
        ...common,
        acpi: input.accel === 'kvm',
        'auto-kernel-cmdline': input.accel === 'tcg',
        // The console is that of plan-console.ts.
        'isa-serial': false,
      };
  }
}

function clock(input: QemuInput): QemuOption[] {
  const base = input.spec.hardware.clock;
  // Lost RTC ticks are caught up (Windows counts them); kvm-pit keeps its default `delay`, as OpenStack sets it.
  if (input.spec.machine === 'q35') return [{ flag: '-rtc', keys: { base, driftfix: 'slew' } }];
  return [
    { flag: '-rtc', keys: { base } },
    // virtio 1.0 instead of the draft before it.
    { flag: '-global', keys: { driver: 'virtio-mmio', property: 'force-legacy', value: false } },
  ];
}
