import { canonicalIp } from './cni/ip-address.ts';
import { isDomainName } from './dhcp/domain-names.ts';
import type { GuestDns } from './guest-network.ts';

export interface ResolvConf {
  readonly dns: GuestDns;
  /** What of the file a guest cannot use; one sentence each, for people. */
  readonly omissions: readonly string[];
}

/**
 * Reads a resolver's configuration, resolv.conf(5): a keyword at the begin of each line; of `search` and `domain` the last
 * one counts, options add up. Total: what is no such line is passed over, as every resolver does.
 *
 * Servers on a loopback address are the node's own (systemd-resolved listens on 127.0.0.53), and those with a zone are on
 * one of its links; neither is there for a guest.
 */
export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  const options: string[] = [];
  const omissions: string[] = [];
  let search: readonly string[] = [];
  for (const line of text.split('\n')) {
    const [keyword = '', ...values] = line.trimEnd().split(/[ \t]+/);
    const [first = ''] = values;
    if (keyword === 'nameserver') {
      const address = canonicalIp(first);
      if (address !== undefined && !isLoopback(address)) nameservers.push(address);
      else omissions.push(`name server ${JSON.stringify(first)} of resolv.conf is of no use to a guest`);
    } else if (keyword === 'search') search = values;
    else if (keyword === 'domain') search = [first];
    else if (keyword === 'options') options.push(...values);
  }
  return {
    dns: {
      nameservers: [...new Set(nameservers)],
      // "." means that names are complete as they are, which a guest does without being told.
      search: search.filter((name) => isDomainName(name)),
      ...(options.length > 0 && { options }),
    },
    omissions,
  };
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}
