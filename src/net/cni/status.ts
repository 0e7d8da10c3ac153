import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import { expectAttachment } from './attachment.ts';
import type { CniEnvironment } from './cni-call.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { Ipam } from './ipam.ts';
import type { NetworkConfig } from './network-config.ts';

/** STATUS: whether an ADD could work now. Throws CniError `unavailable` with what is in the way. */
export async function status(
  host: Host,
  config: NetworkConfig,
  environment: CniEnvironment,
  signal?: AbortSignal,
): Promise<void> {
  try {
    if (!config.isGateway) await expectAttachment(host, config.attachment, signal);
    await new Ipam(host, config, environment, signal).status();
  } catch (error) {
    if (VmError.is(error, 'Canceled')) throw error;
    throw new CniError(CNI_CODE.unavailable, VmError.from(error).message, { cause: error });
  }
}
