import type { Host } from '../../host/host.ts';
import type { GuestAddress } from '../guest-network.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { ipFamily } from './ip-address.ts';

const IPV4 = '/proc/sys/net/ipv4/ip_forward';
const IPV6 = '/proc/sys/net/ipv6/conf/all/forwarding';
/** Of linux/ipv6_route.h: learned from router advertisements; a default route. */
const RTF_ADDRCONF = 0x0004_0000;
const RTF_DEFAULT = 0x0001_0000;

/**
 * The node passes on packets of the families that its guests have addresses of.
 * @throws CniError `attachment` where turning it on would cut the node itself off.
 */
export function enableForwarding(host: Host, addresses: readonly GuestAddress[]): void {
  const families = new Set(addresses.map(({ address }) => ipFamily(address)));
  if (families.has(4) && isOff(host, IPV4)) host.writeText(IPV4, '1');
  if (!families.has(6) || !isOff(host, IPV6)) return;
  // With forwarding on the kernel forgets the default routes it learned from routers (ip-sysctl: accept_ra).
  const link = advertisedDefaults(host).find((name) => acceptRa(host, name) !== '2');
  if (link === undefined) {
    host.writeText(IPV6, '1');
    return;
  }
  throw new CniError(
    CNI_CODE.attachment,
    `IPv6 forwarding is off, and turning it on would take the default route this node learned on ${link}; ` +
      `set net.ipv6.conf.${link}.accept_ra=2 and net.ipv6.conf.all.forwarding=1`,
  );
}

/** Links with a default route from a router advertisement. Source: proc(5) of /proc/net/ipv6_route. */
function advertisedDefaults(host: Host): string[] {
  return host
    .readText('/proc/net/ipv6_route')
    .split('\n')
    .flatMap((line) => {
      const [, , , , , , , , flags = '', link = ''] = line.trim().split(/\s+/);
      const bits = Number.parseInt(flags, 16);
      return (bits & RTF_ADDRCONF) !== 0 && (bits & RTF_DEFAULT) !== 0 ? [link] : [];
    });
}

function acceptRa(host: Host, link: string): string {
  return host.readText(`/proc/sys/net/ipv6/conf/${link}/accept_ra`).trim();
}

/** A container's /proc/sys may be read-only, and right already. */
function isOff(host: Host, path: string): boolean {
  return host.readText(path).trim() === '0';
}
