import type { QemuOption } from './option.ts';
import type { FdNumber } from './plan-fds.ts';

/** QMP and the serial console, both on sockets that listen already, so no client can come too early. */
export function planConsole(fd: FdNumber): QemuOption[] {
  return [
    listeningSocket('qmp', fd('qmp')),
    { flag: '-mon', keys: { chardev: 'qmp', mode: 'control' } },
    listeningSocket('console', fd('console')),
    // ttyS0 needs no driver: firmware, boot loader, kernel and every distribution's getty speak it.
    { flag: '-device', json: { driver: 'isa-serial', id: 'serial0', chardev: 'console' } },
  ];
}

function listeningSocket(id: string, fd: number): QemuOption {
  // wait=off: QEMU starts, and the guest runs on, whether or not anybody is connected.
  return { flag: '-chardev', head: 'socket', keys: { id, fd, server: true, wait: false } };
}
