import type { QmpCallOptions } from './qmp-commands.ts';
import type { QmpClient } from './qmp-client.ts';

/**
 * Makes QEMU serve VNC on `listener`, a listening unix socket. It can neither bind a path of ours nor open one, so it is
 * handed the socket; our copy may be closed then. The plan must have `-vnc`.
 * Source: QEMU's qapi/ui.json, display-update.
 */
export async function serveVnc(qmp: QmpClient, listener: number, options: QmpCallOptions): Promise<void> {
  await qmp.executeWithFd('getfd', { fdname: 'vnc' }, listener, options);
  const addresses = [{ type: 'fd', str: 'vnc' }];
  await qmp.execute('display-update', { type: 'vnc', addresses }, options);
}
