import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { execInNetns, runBatch } from './ip-command.ts';
import { checkLinkName } from './link-name.ts';

export interface LinkPlace {
  readonly netns: string;
  readonly link: string;
}

/** Gives a pod's link another MAC address; it stays up, and its IP addresses stay. */
export async function setLinkMac(
  host: Host,
  { netns, link }: LinkPlace,
  mac: string,
  signal?: AbortSignal,
): Promise<void> {
  await runBatch(host, 'ip', netns, [['link', 'set', 'dev', checkLinkName(link), 'address', mac]], signal);
}

/** Gives a pod's link the MAC address back that its CNI plugin knows. Idempotent: a link or namespace may be gone. */
export async function restoreLinkMac(
  host: Host,
  { netns, link }: LinkPlace,
  mac: string,
  signal?: AbortSignal,
): Promise<void> {
  if (host.inspect(netns) === undefined) return;
  const args = ['link', 'set', 'dev', checkLinkName(link), 'address', mac];
  try {
    await execInNetns(host, netns, 'ip', args, { signal });
  } catch (error) {
    if (VmError.is(error) && /Cannot find device|reassociate to namespace/.test(error.message)) return;
    throw error;
  }
}
