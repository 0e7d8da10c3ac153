import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import { findHandover, type Lease } from '../handover.ts';
import { ensureGateway, expectAttachment } from './attachment.ts';
import type { CniEnvironment, Nic } from './cni-call.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { expectNotCanceled } from './del.ts';
import { enableForwarding } from './forwarding.ts';
import { Ipam, type IpamResult } from './ipam.ts';
import { takeKept, type TakenNic } from './kept-nic.ts';
import { freeEarlierBoots } from './lease-note.ts';
import type { NetworkConfig } from './network-config.ts';
import { claimNic, type NicClaim } from './nic-claim.ts';
import { planNic, type NicPlan } from './plan-nic.ts';
import { renderResult } from './render-result.ts';

/**
 * ADD: gets addresses, and leaves the hand-over from which the shim makes the NIC. No link is made in the pod's
 * namespace, and none but the bridge of `isGateway` in the node's.
 * @returns the result for the runtime. After an error nothing is left.
 */
export async function add(
  host: Host,
  config: NetworkConfig,
  { nic, environment }: { nic: Nic; environment: CniEnvironment },
  signal?: AbortSignal,
): Promise<object> {
  expectFirstInChain(config);
  expectNewNic(host, config, nic);
  const mtu = config.isGateway ? undefined : await expectAttachment(host, config.attachment, signal);
  using claim = claimNic(host, config.stateDir, { ...nic, network: config.name });
  const ipam = new Ipam(host, config, environment, signal);
  // Its guest runs on from an earlier sandbox, with these addresses.
  const taken = takeKept(host, config.stateDir, nic, config.name);
  if (taken !== undefined) return await addTaken(host, config, { nic, mtu, ipam, taken, claim, signal });
  await freeEarlierBoots(host, config, signal).catch(expectNotCanceled);
  let addresses: Addresses | undefined;
  try {
    const { ipam: given, raw } = await ipam.add();
    addresses = { ipam: given, lease: { sandboxId: nic.sandboxId, result: raw } };
    const plan = await prepare(host, config, { nic, addresses, mtu, signal });
    claim.commit(plan.handover);
    return renderResult(config.cniVersion, plan);
  } catch (error) {
    // A plugin that failed has taken nothing; one that we stopped may have.
    if (addresses === undefined && !VmError.is(error, 'Canceled')) throw error;
    throw await rolledBack(error, new Ipam(host, config, environment), claim);
  }
}

interface Addresses {
  readonly ipam: IpamResult;
  readonly lease: Lease;
}

/** IPAM is not asked: it has given these addresses already, under an earlier sandbox's id. */
async function addTaken(
  host: Host,
  config: NetworkConfig,
  {
    taken,
    claim,
    ipam,
    ...rest
  }: {
    nic: Nic;
    mtu: number | undefined;
    ipam: Ipam;
    taken: TakenNic;
    claim: NicClaim;
    signal: AbortSignal | undefined;
  },
): Promise<object> {
  try {
    const { lease } = taken;
    const addresses = { ipam: ipam.read(lease.result).ipam, lease };
    const plan = await prepare(host, config, { ...rest, addresses });
    claim.commit(plan.handover);
    taken.settle();
    return renderResult(config.cniVersion, plan);
  } catch (error) {
    taken.giveBack();
    throw error;
  }
}

/** @param found MTU of the attachment, where that is not ours to make. */
async function prepare(
  host: Host,
  config: NetworkConfig,
  {
    nic,
    addresses,
    mtu: found,
    signal,
  }: {
    nic: Nic;
    addresses: Addresses;
    mtu: number | undefined;
    signal: AbortSignal | undefined;
  },
): Promise<NicPlan> {
  const { attachment, mtu } = config;
  const plan = (bytes: number): NicPlan => planNic(config, nic, addresses, bytes);
  const made =
    config.isGateway && attachment.kind === 'bridge'
      ? await ensureGateway(host, attachment, {
          addresses: plan(0).handover.guest.addresses,
          mtu,
          signal,
        })
      : found;
  const planned = plan(mtu ?? made ?? 0);
  if (config.isGateway || attachment.kind === 'routed')
    enableForwarding(host, planned.handover.guest.addresses);
  return planned;
}

function expectFirstInChain(config: NetworkConfig): void {
  if (config.document.at('prevResult').object() === undefined) return;
  throw new CniError(
    CNI_CODE.config,
    `vm-tap makes the pod’s interface, so it must be the first of the plugins of network "${config.name}"`,
  );
}

function expectNewNic(host: Host, { stateDir }: NetworkConfig, { sandboxId, ifName, netns }: Nic): void {
  if (host.inspect(netns) === undefined) {
    throw new CniError(CNI_CODE.environment, `CNI_NETNS is "${netns}", where no network namespace is`);
  }
  if (findHandover(host, stateDir, sandboxId, ifName) === undefined) return;
  throw new CniError(
    CNI_CODE.handover,
    `${ifName} of sandbox ${sandboxId} has been added already; the runtime has to call DEL before it adds it again`,
  );
}

async function rolledBack(error: unknown, ipam: Ipam, claim: NicClaim): Promise<unknown> {
  try {
    await ipam.del();
    return error;
  } catch (second) {
    claim.keep();
    const [first, then] = [VmError.from(error), VmError.from(second)];
    return new CniError(
      error instanceof CniError ? error.code : CNI_CODE.internal,
      `${first.message}; and its addresses could not be given back: ${then.message}`,
      { cause: new AggregateError([error, second]) },
    );
  }
}
