import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { execInNetns, runBatch } from './ip-command.ts';
import { checkLinkName } from './link-name.ts';
import { settleAll } from './settle-all.ts';

/** A pod's link that stands for a guest with another MAC address. */
export interface ForeignLink {
  readonly netns: string;
  readonly link: string;
  readonly tap: string;
  /** As its CNI plugin made it. */
  readonly linkMac: string;
}

/** In front of the mirror's filter. */
const PREFERENCE = '99';
const TABLE = 'netdev vmshim_link';
const GONE =
  /Cannot find (?:device|specified filter chain)|Parent Qdisc doesn't exist|priority\/protocol not found|reassociate to namespace/;

/**
 * Gives a pod's link its guest's MAC address; it stays up, and its IP addresses stay. What comes for the address that the CNI
 * plugin knows, as from neighbours that it wrote down itself (Calico, Cilium), is sent to the guest all the same: it passes
 * by the mirror, and nftables changes the address and sends it on. Idempotent. For after the mirror.
 */
export async function lendGuestMac(
  host: Host,
  { netns, link, tap, linkMac }: ForeignLink,
  guestMac: string,
  signal?: AbortSignal,
): Promise<void> {
  const [name, to] = [checkLinkName(link), checkLinkName(tap)];
  const address = ['link', 'set', 'dev', name, 'address', guestMac];
  const filter = ['filter', 'add', 'dev', name, 'parent', 'ffff:', 'protocol', 'all', 'pref', PREFERENCE];
  const pass = [...filter, 'u32', 'match', 'ether', 'dst', linkMac, 'flowid', '1:1'];
  const script = [
    `add table ${TABLE}`,
    `add chain ${TABLE} lead { type filter hook ingress device "${name}" priority 0; policy accept; }`,
    `flush chain ${TABLE} lead`,
    `add rule ${TABLE} lead ether daddr ${linkMac} ether daddr set ${guestMac} fwd to "${to}"`,
  ];
  // u32's handles are those of all preferences together, so there is none to replace it by.
  await unless(GONE, () => execInNetns(host, netns, 'tc', deletePass(name), { signal }));
  await settleAll([
    runBatch(host, 'ip', netns, [address], signal),
    runBatch(host, 'tc', netns, [pass], signal),
    execInNetns(host, netns, 'nft', ['-f', '-'], { input: `${script.join('\n')}\n`, signal }),
  ]);
}

/** Makes a pod's link again what its CNI plugin knows. Idempotent: a link or namespace may be gone. */
export async function returnLinkMac(
  host: Host,
  { netns, link, linkMac }: ForeignLink,
  signal?: AbortSignal,
): Promise<void> {
  if (host.inspect(netns) === undefined) return;
  const name = checkLinkName(link);
  const run = (program: string, args: readonly string[], input?: string): Promise<void> =>
    unless(GONE, () =>
      execInNetns(host, netns, program, args, { ...(input !== undefined && { input }), signal }),
    );
  await settleAll([
    run('ip', ['link', 'set', 'dev', name, 'address', linkMac]),
    run('tc', deletePass(name)),
    run('nft', ['-f', '-'], `add table ${TABLE}\ndelete table ${TABLE}\n`),
  ]);
}

function deletePass(link: string): string[] {
  return ['filter', 'delete', 'dev', link, 'ingress', 'pref', PREFERENCE];
}

/** Runs a command whose work may be done already, as its words then tell. */
async function unless(done: RegExp, command: () => Promise<unknown>): Promise<void> {
  try {
    await command();
  } catch (error) {
    if (!VmError.is(error) || !done.test(error.message)) throw error;
  }
}
