import type { QmpEvent } from './qmp-codec.ts';

/** `ShutdownCause` of QEMU's `qapi/run-state.json`. */
export type ShutdownCause =
  | 'none'
  | 'host-error'
  | 'host-qmp-quit'
  | 'host-qmp-system-reset'
  | 'host-signal'
  | 'host-ui'
  | 'guest-shutdown'
  | 'guest-reset'
  | 'guest-panic'
  | 'subsystem-reset'
  | 'snapshot-load'
  | (string & {});

/** The events that the machine reacts to; `at` is in milliseconds since the epoch. */
export type VmEvent =
  /** `guest` tells that the guest asked, not the host. */
  | {
      readonly name: 'SHUTDOWN';
      readonly at: number;
      readonly guest: boolean;
      readonly reason: ShutdownCause;
    }
  /** Comes one to three times for one reboot: never count it. */
  | { readonly name: 'RESET'; readonly at: number; readonly guest: boolean; readonly reason: ShutdownCause }
  | { readonly name: 'STOP'; readonly at: number }
  | { readonly name: 'RESUME'; readonly at: number }
  | { readonly name: 'POWERDOWN'; readonly at: number }
  /** `action` is what QEMU does about it: `pause`, `poweroff`, `run`, `exit-failure`. */
  | { readonly name: 'GUEST_PANICKED'; readonly at: number; readonly action: string }
  | {
      readonly name: 'BLOCK_IO_ERROR';
      readonly at: number;
      readonly device: string;
      /** Empty where QEMU names none. */
      readonly nodeName: string;
      readonly operation: 'read' | 'write';
      /** What QEMU does about it: `report` to the guest, `ignore`, or `stop` the guest. */
      readonly action: string;
      /** The host's storage is full. */
      readonly noSpace: boolean;
      readonly reason: string;
    }
  /** `actual` is the guest's RAM in bytes without what the balloon took. */
  | { readonly name: 'BALLOON_CHANGE'; readonly at: number; readonly actual: number }
  /** The guest has taken or given back plugged RAM: `size` are the bytes that it has of it now. */
  | {
      readonly name: 'MEMORY_DEVICE_SIZE_CHANGE';
      readonly at: number;
      readonly device: string;
      readonly size: number;
    };

/** The names of `VmEvent`, as `QmpClient.listen()` takes them. */
export const vmEventNames: readonly VmEvent['name'][] = [
  'SHUTDOWN',
  'RESET',
  'STOP',
  'RESUME',
  'POWERDOWN',
  'GUEST_PANICKED',
  'BLOCK_IO_ERROR',
  'BALLOON_CHANGE',
  'MEMORY_DEVICE_SIZE_CHANGE',
];

/** Undefined for events that are none of ours. Total: a field QEMU left out is empty, false or 0. */
export function parseVmEvent({ name, data, at }: QmpEvent): VmEvent | undefined {
  switch (name) {
    case 'SHUTDOWN':
    case 'RESET':
      return { name, at, guest: data['guest'] === true, reason: text(data['reason']) };
    case 'STOP':
    case 'RESUME':
    case 'POWERDOWN':
      return { name, at };
    case 'GUEST_PANICKED':
      return { name, at, action: text(data['action']) };
    case 'BLOCK_IO_ERROR':
      return {
        name,
        at,
        device: text(data['device']),
        nodeName: text(data['node-name']),
        operation: data['operation'] === 'read' ? 'read' : 'write',
        action: text(data['action']),
        noSpace: data['nospace'] === true,
        reason: text(data['reason']),
      };
    case 'BALLOON_CHANGE':
      return { name, at, actual: typeof data['actual'] === 'number' ? data['actual'] : 0 };
    case 'MEMORY_DEVICE_SIZE_CHANGE':
      return {
        name,
        at,
        device: text(data['id']),
        size: typeof data['size'] === 'number' ? data['size'] : 0,
      };
    default:
      return undefined;
  }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
