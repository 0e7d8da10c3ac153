import type { VmEvent } from '../qemu/qmp-events.ts';

export type IoErrorEvent = Extract<VmEvent, { name: 'BLOCK_IO_ERROR' }>;

/** Requests of a guest that the node's storage refuses, since the first of them. Only data, as all of a machine's state. */
export interface IoTrouble {
  /** Such as `root`, or what the pod calls it; empty where QEMU named none. */
  readonly disk: string;
  readonly operation: 'read' | 'write';
  /** The system's words for the errno, such as `No space left on device`. */
  readonly reason: string;
  readonly noSpace: boolean;
  /** Milliseconds since the epoch. */
  readonly since: number;
  readonly errors: number;
}

/** The first error names the trouble; those that follow are counted, and the newest says what it is now. */
export function addIoError(trouble: IoTrouble | undefined, event: IoErrorEvent): IoTrouble {
  const { nodeName, device, operation, noSpace, at } = event;
  return {
    disk: diskName(nodeName === '' ? device : nodeName),
    operation,
    reason: event.reason === '' ? 'input/output error' : event.reason,
    noSpace,
    since: trouble?.since ?? at,
    errors: (trouble?.errors ?? 0) + 1,
  };
}

/** As the pod calls it; its own disks are `root` and `guest-drive`. */
function diskName(node: string): string {
  return node.startsWith('volume-') ? node.slice('volume-'.length) : node;
}

/** For a guest that QEMU says has stopped for an I/O error that it told nothing else of; 10.0 and later hold events back. */
export function untoldTrouble(at: number): IoTrouble {
  return { disk: '', operation: 'write', reason: 'input/output error', noSpace: false, since: at, errors: 0 };
}

/** Such as `disk "root" cannot be written: No space left on device`. */
export function describeTrouble({ disk, operation, reason }: IoTrouble): string {
  const name = disk === '' ? 'a disk' : `disk "${disk}"`;
  return `${name} cannot be ${operation === 'write' ? 'written' : 'read'}: ${reason}`;
}
