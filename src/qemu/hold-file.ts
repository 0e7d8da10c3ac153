import { VmError } from '../core/errors.ts';
import type { QmpCallOptions } from './qmp-commands.ts';
import type { QmpClient } from './qmp-client.ts';

/**
 * Has QEMU keep an open file that it has no use for, so that what the file stands for lives as long as QEMU: it outlives every
 * QMP connection. One of the same name is replaced. Source: QEMU's qapi/misc.json, getfd.
 */
export async function holdFile(
  qmp: QmpClient,
  name: string,
  fd: number,
  options: QmpCallOptions,
): Promise<void> {
  await qmp.executeWithFd('getfd', { fdname: name }, fd, options);
}

/** Idempotent: QEMU may not have a file of that name. */
export async function dropFile(qmp: QmpClient, name: string, options: QmpCallOptions): Promise<void> {
  try {
    await qmp.execute('closefd', { fdname: name }, options);
  } catch (error) {
    if (!VmError.is(error, 'Internal') || !error.message.includes('not found')) throw error;
  }
}
