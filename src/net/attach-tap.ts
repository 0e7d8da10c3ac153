import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { planAttachment, planDetachment, type Sysctl } from './attach-plan.ts';
import type { GuestInterface, TapAttachment } from './guest-network.ts';
import { runBatch } from './ip-command.ts';

const SYSCTL = '/proc/sys/net';

/** What a frame of the guest's meets on its way to the network. */
export interface AttachOptions {
  /** Whether netfilter checks it, so that an attachment which goes past netfilter must not be made; by default it does. */
  readonly guarded?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Brings a TAP of the node's namespace up, with the guest's MTU, as a port of its network. When it fails, closing the
 * TAP's descriptors undoes what was done; `detachTap` only matters after success.
 * @throws VmError with what is wrong with the bridge, the route or the node's settings.
 */
export async function attachTap(
  host: Host,
  tap: string,
  attachment: TapAttachment,
  guest: GuestInterface,
  { guarded = true, signal }: AttachOptions = {},
): Promise<void> {
  const plan = planAttachment(tap, attachment, guest);
  for (const sysctl of plan.required) require(host, tap, sysctl);
  for (const sysctl of plan.sysctls) write(host, sysctl);
  try {
    await runBatch(host, 'ip', undefined, plan.ip, signal);
    await runBatch(host, 'bridge', undefined, plan.vlans, signal);
    await runBatch(host, 'ip', undefined, plan.up, signal);
  } catch (error) {
    throw explain(error, tap, attachment);
  }
  if (plan.ovs === undefined) return;
  const datapath = (await ovs(host, plan.ovs, signal)).trim();
  if (guarded && datapath === 'netdev') await refuseUserspace(host, tap, attachment);
}

/**
 * The userspace datapath takes frames from packet sockets, and the kernel hands these a frame before it asks netfilter: the
 * guard would count and drop copies. The kernel's datapath takes them after it.
 */
async function refuseUserspace(host: Host, tap: string, attachment: TapAttachment): Promise<never> {
  await detachTap(host, tap, attachment);
  const bridge = attachment.kind === 'routed' ? '' : attachment.bridge;
  throw new VmError(
    'FailedPrecondition',
    `Open vSwitch bridge "${bridge}" has the userspace datapath, which takes frames past the spoof guard of ${tap}; ` +
      `use the kernel's (ovs-vsctl set Bridge ${bridge} datapath_type=system), or turn the guard off`,
  );
}

/** Idempotent, and works without the TAP. Needs nothing but an attachment of kind `ovs`. */
export async function detachTap(
  host: Host,
  tap: string,
  attachment: TapAttachment,
  signal?: AbortSignal,
): Promise<void> {
  const command = planDetachment(tap, attachment);
  if (command === undefined) return;
  try {
    await ovs(host, command, signal);
  } catch (error) {
    // Without Open vSwitch there is no port.
    if (!VmError.is(error, 'FailedPrecondition')) throw error;
  }
}

function require(host: Host, tap: string, { path, value }: Sysctl): void {
  if (host.readText(`${SYSCTL}/${path}`).trim() === value) return;
  throw new VmError(
    'FailedPrecondition',
    `TAP ${tap} cannot be routed: sysctl net.${path.replaceAll('/', '.')} is not ${value}; ` +
      'set it, with accept_ra=2 on an uplink that gets its routes from router advertisements',
  );
}

/** Writing ip_forward resets other settings even if it is 1 already. */
function write(host: Host, { path, value }: Sysctl): void {
  const file = `${SYSCTL}/${path}`;
  if (host.readText(file).trim() !== value) host.writeText(file, value);
}

function explain(error: unknown, tap: string, attachment: TapAttachment): unknown {
  if (!VmError.is(error, 'Internal')) return error;
  const say = (text: string): VmError => new VmError('FailedPrecondition', text, { cause: error });
  switch (attachment.kind) {
    case 'bridge':
      return say(
        `TAP ${tap} cannot join the bridge "${attachment.bridge}" (${error.message}); ` +
          'name a Linux bridge of the node that has a free port in the CNI configuration',
      );
    case 'ovs':
      return error;
    case 'routed':
      return error.message.includes('File exists')
        ? say(
            `TAP ${tap} cannot get its route, another interface of the node has it (${error.message}); release it there`,
          )
        : error;
  }
}

/** @returns its stdout. */
async function ovs(host: Host, args: readonly string[], signal?: AbortSignal): Promise<string> {
  try {
    return (await host.exec('ovs-vsctl', args, signal === undefined ? {} : { signal })).stdout;
  } catch (error) {
    if (!VmError.is(error, 'NotFound')) throw error;
    throw new VmError(
      'FailedPrecondition',
      'an attachment of kind "ovs" needs ovs-vsctl on the node; install Open vSwitch or name a Linux bridge',
      { cause: error },
    );
  }
}
