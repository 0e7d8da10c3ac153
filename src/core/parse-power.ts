import type { AnnotationValues } from './annotations.ts';
import type { PowerSpec } from './power-spec.ts';
import type { MachineKind } from './vm-spec.ts';

/** What a user of a cloud expects: a guest that is down ends its VM, one that reboots goes on. */
export function parsePower(said: AnnotationValues, machine: MachineKind): PowerSpec {
  return {
    onPoweroff: said['on-poweroff'] ?? 'exit',
    // A microvm without ACPI has no other way to end.
    onReboot: said['on-reboot'] ?? (machine === 'microvm' ? 'exit' : 'restart'),
    onCrash: said['on-crash'] ?? 'exit',
  };
}
