import { ANNOTATION_PREFIX, type AnnotationValues } from './annotations.ts';
import { VmError } from './errors.ts';
import type { HardwareSpec } from './hardware-spec.ts';
import type { MachineKind } from './vm-spec.ts';

/** What a microvm, which has no PCI, cannot take; each with the one value that it does. */
const ONLY_FOR_MICROVM = {
  os: 'linux',
  video: 'none',
  'disk-bus': 'virtio',
  'nic-model': 'virtio',
  watchdog: 'none',
} as const satisfies { readonly [K in keyof AnnotationValues]?: AnnotationValues[K] };

/**
 * `vmshim.io/os` sets the defaults, each of the other keys wins over it.
 * @throws VmError InvalidArgument for what the kind of machine has not.
 */
export function parseHardware(said: AnnotationValues, machine: MachineKind): HardwareSpec {
  if (machine === 'microvm') refuseWithoutPci(said);
  const windows = said.os === 'windows';
  return {
    hyperv: said.hyperv === undefined ? windows : said.hyperv === 'on',
    clock: said.clock ?? (windows ? 'localtime' : 'utc'),
    video: said.video ?? (windows ? 'std' : 'none'),
    diskBus: said['disk-bus'] ?? 'virtio',
    nicModel: said['nic-model'] ?? 'virtio',
    onIoError: said['on-io-error'] ?? 'stop',
    watchdog: parseWatchdog(said),
  };
}

/** @throws VmError InvalidArgument for an action of a watchdog that is not there. */
function parseWatchdog({ watchdog, 'watchdog-action': action }: AnnotationValues): HardwareSpec['watchdog'] {
  if (watchdog === 'i6300esb') return action ?? 'reset';
  if (action === undefined) return undefined;
  throw new VmError(
    'InvalidArgument',
    `annotation ${ANNOTATION_PREFIX}watchdog-action is "${action}" but the VM has no watchdog: set ${ANNOTATION_PREFIX}watchdog to "i6300esb" as well`,
  );
}

function refuseWithoutPci(said: AnnotationValues): void {
  for (const [key, only] of Object.entries(ONLY_FOR_MICROVM)) {
    const value = said[key as keyof typeof ONLY_FOR_MICROVM];
    if (value === undefined || value === only) continue;
    throw new VmError(
      'InvalidArgument',
      `annotation ${ANNOTATION_PREFIX}${key} is "${value}", which a microvm has no PCI for: remove it or set ${ANNOTATION_PREFIX}machine to "q35"`,
    );
  }
}
