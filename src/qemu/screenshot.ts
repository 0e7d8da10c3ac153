import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { openFlags } from '../host/open-flags.ts';
import { ownFd } from '../host/owned-fd.ts';
import { type QmpCallOptions, screendump } from './qmp-commands.ts';
import type { QmpClient } from './qmp-client.ts';

/** Above every set of `-add-fd`, which have the numbers of descriptors. */
const FD_SET = 10_000;
const PNG_SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
/** A screen of 8K that does not compress at all has 100 MiB; a QEMU that its guest has taken over may write for ever. */
const MAX_BYTES = 128 << 20;

/**
 * The screen as PNG. QEMU writes into memory of ours by a descriptor: it can open no path. One at a time per VM, since
 * the descriptor set has one number.
 * @throws VmError FailedPrecondition where the VM has no screen or QEMU wrote no picture.
 */
export async function takeScreenshot(
  { host, native }: { host: Host; native: Native },
  qmp: QmpClient,
  options: QmpCallOptions,
): Promise<Buffer> {
  using picture = ownFd(native.memfdCreate('vmshim-screen', 0));
  {
    // QEMU looks for a descriptor of exactly the access it wants.
    using writer = host.open(`/proc/self/fd/${picture.fd}`, openFlags.O_WRONLY);
    await qmp.executeWithFd('add-fd', { 'fdset-id': FD_SET }, writer.fd, options);
  }
  try {
    await screendump(qmp, `/dev/fdset/${FD_SET}`, options);
  } finally {
    await qmp.execute('remove-fd', { 'fdset-id': FD_SET }, options);
  }
  const { size } = host.inspectFd(picture.fd);
  const bytes = host.readBytes(picture.fd, 0, Math.min(size, MAX_BYTES));
  if (size > MAX_BYTES || !bytes.subarray(0, PNG_SIGNATURE.length).equals(PNG_SIGNATURE)) {
    throw new VmError(
      'FailedPrecondition',
      `QEMU wrote ${size} bytes that are no picture of the screen; look at its log`,
    );
  }
  return bytes;
}
