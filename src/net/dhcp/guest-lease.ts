import { VmError } from '../../core/errors.ts';
import type { GuestInterface } from '../guest-network.ts';
import { isDomainName } from './domain-names.ts';
import { linkLocalOf, parseIp, parseMac, sameBytes } from './ip-bytes.ts';
import { planLease4, type Lease4 } from './lease4.ts';
import { planLease6, type Lease6, type Router6 } from './lease6.ts';

/** Everything the responder may ever tell one guest, as bytes ready to be sent. */
export interface GuestLease {
  readonly mac: Uint8Array;
  /** Source of our frames; no other station has it, and nothing is ever sent to it but renewals. */
  readonly serverMac: Uint8Array;
  readonly mtu: number;
  readonly hostname: string | undefined;
  readonly search: readonly string[];
  /** Absent when the guest has no address of the family: its requests are not answered then. */
  readonly v4: Lease4 | undefined;
  readonly v6: Lease6 | undefined;
  /** What of the interface the protocols cannot tell the guest; one sentence each, for the log. */
  readonly omissions: readonly string[];
}

export interface LeaseOptions {
  readonly hostname?: string;
  /** Needed for an IPv6 default route when its gateway is no link-local address: RFC 4861 knows routers by these only. */
  readonly router6?: Router6;
  /** MAC address of the node's end of the TAP, where that is the guest's IPv4 gateway. */
  readonly nodeMac?: string;
}

/** Locally administered, "vm" in ASCII. */
const SERVER_MAC = Uint8Array.of(0x02, 0x76, 0x6d, 0, 0, 1);
const SERVER_MAC_OF_A_GUEST_WITH_THAT_ONE = Uint8Array.of(0x02, 0x76, 0x6d, 0, 0, 2);

/** Addresses that guests know their router by though no station has them: no guest may claim one. */
export const MADE_UP_ROUTERS: readonly Uint8Array[] = [
  linkLocalOf(SERVER_MAC),
  linkLocalOf(SERVER_MAC_OF_A_GUEST_WITH_THAT_ONE),
];

/** Pure. Throws InvalidArgument that names the field of `guest` which is not what it should be. */
export function planGuestLease(guest: GuestInterface, options: LeaseOptions = {}): GuestLease {
  const mac = parseMac(guest.mac);
  if (mac === undefined || sameBytes(mac, new Uint8Array(6)) || ((mac[0] ?? 0) & 1) !== 0) {
    throw unusable(guest, 'mac', guest.mac, 'a unicast MAC address of six hex pairs');
  }
  if (!Number.isInteger(guest.mtu) || guest.mtu < 68 || guest.mtu > 65535) {
    throw unusable(guest, 'mtu', guest.mtu, 'a number of bytes from 68 to 65535');
  }
  const domain = guest.dns.search.find((name) => !isDomainName(name));
  if (domain !== undefined) throw unusable(guest, 'dns.search', domain, 'a domain name');

  if (options.hostname !== undefined && !isDomainName(options.hostname)) {
    throw unusable(guest, 'hostname', options.hostname, 'a host name');
  }

  const nodeMac = options.nodeMac === undefined ? undefined : parseMac(options.nodeMac);
  if (options.nodeMac !== undefined && nodeMac === undefined) {
    throw unusable(guest, 'nodeMac', options.nodeMac, 'six hex pairs');
  }
  const serverMac = sameBytes(mac, SERVER_MAC) ? SERVER_MAC_OF_A_GUEST_WITH_THAT_ONE : SERVER_MAC;
  const nameservers = guest.dns.nameservers.map((text) => {
    const address = parseIp(text);
    if (address === undefined) throw unusable(guest, 'dns.nameservers', text, 'an IP address');
    return address;
  });
  const omissions: string[] = [];
  return {
    mac,
    serverMac,
    mtu: guest.mtu,
    hostname: options.hostname,
    search: guest.dns.search,
    v4: planLease4(
      guest,
      nameservers.filter((address) => address.length === 4),
      nodeMac,
    ),
    v6: planLease6(
      guest,
      nameservers.filter((address) => address.length === 16),
      serverMac,
      options.router6,
      omissions,
    ),
    omissions,
  };
}

function unusable(guest: GuestInterface, field: string, value: string | number, wanted: string): VmError {
  return new VmError(
    'InvalidArgument',
    `${field} of the guest’s interface ${guest.ifName} is ${JSON.stringify(value)}, and must be ${wanted}`,
  );
}
