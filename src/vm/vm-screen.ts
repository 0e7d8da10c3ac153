import { ANNOTATION_PREFIX } from '../core/annotations.ts';
import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { ownFd } from '../host/owned-fd.ts';
import type { QmpClient } from '../qemu/qmp-client.ts';
import { takeScreenshot } from '../qemu/screenshot.ts';
import { serveVnc } from '../qemu/vnc.ts';

const BACKLOG = 8;

/** What people see of a VM that has a graphics card. */
export interface VmScreen {
  /** Unix socket on which QEMU serves VNC, without a password: only root reaches it. */
  readonly vncSocket: string;
  /** PNG. */
  screenshot(signal: AbortSignal): Promise<Buffer>;
}

/** Opens the VNC socket, mode 0600, and hands it to QEMU; it goes with the VM's directory. */
export async function openScreen(
  deps: { host: Host; native: Native },
  qmp: QmpClient,
  vncSocket: string,
  signal: AbortSignal,
): Promise<VmScreen> {
  using listener = ownFd(deps.native.listenUnix(vncSocket, BACKLOG));
  await serveVnc(qmp, listener.fd, { signal });
  return screenOf(deps, qmp, vncSocket);
}

/** The screen of a QEMU that has its VNC socket already. */
export function screenOf(deps: { host: Host; native: Native }, qmp: QmpClient, vncSocket: string): VmScreen {
  let last: Promise<unknown> = Promise.resolve();
  return {
    vncSocket,
    screenshot: (signal) => {
      const shot = last.then(() => takeScreenshot(deps, qmp, { signal }));
      last = shot.catch(() => undefined);
      return shot;
    },
  };
}

/** @throws VmError FailedPrecondition for a VM without one. */
export function expectScreen(screen: VmScreen | undefined, name: string): VmScreen {
  if (screen !== undefined) return screen;
  throw new VmError(
    'FailedPrecondition',
    `VM "${name}" has no screen; create it with annotation ${ANNOTATION_PREFIX}video set to "std", or see its serial console with "vmctl console"`,
  );
}
