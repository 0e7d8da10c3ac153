import { tapMac } from '../tap-name.ts';
import type { CniDns } from './cni-dns.ts';
import { type CniVersion, isAtLeast } from './cni-version.ts';
import { ipFamily } from './ip-address.ts';
import type { NicPlan } from './plan-nic.ts';

/**
 * The result of ADD in the version the runtime asked for (CNI specification, "ADD Success"). The first interface is the
 * pod's, as containerd and chained plugins look for it, though no such link exists in its namespace; the second is the
 * TAP, which has no sandbox because it is in the node's namespace.
 */
export function renderResult(cniVersion: CniVersion, { handover, routes, dns }: NicPlan): object {
  const { guest, netns, tap } = handover;
  const mtu = isAtLeast(cniVersion, '1.1.0') ? { mtu: guest.mtu } : {};
  return {
    cniVersion,
    interfaces: [
      { name: guest.ifName, mac: guest.mac, ...mtu, sandbox: netns },
      { name: tap, mac: tapMac(guest.mac), ...mtu },
    ],
    ips: guest.addresses.map(({ address, prefixLength, gateway }) => ({
      ...(!isAtLeast(cniVersion, '1.0.0') && { version: String(ipFamily(address)) }),
      interface: 0,
      address: `${address}/${prefixLength}`,
      gateway,
    })),
    routes: routes.map(({ dst, gw, rest }) => ({
      dst,
      gw,
      ...(isAtLeast(cniVersion, '1.1.0') && rest),
    })),
    dns: renderDns(dns),
  };
}

function renderDns({ nameservers, domain, search, options }: CniDns): object {
  const some = (list: readonly string[]): readonly string[] | undefined =>
    list.length > 0 ? list : undefined;
  return { nameservers: some(nameservers), domain, search: some(search), options: some(options) };
}
