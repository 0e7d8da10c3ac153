import type { FamilySetting, GuestLink } from './guest-links.ts';
import { familyOf, formatMask, formatNetwork } from './ip-network.ts';

/**
 * network_data.json. Source: Nova's doc/api_schemas/network_data.json; `dns_nameservers` and `dns_search` are cloud-init's
 * (valid_keys of its convert_net_json). The link's type is one that every reader takes for a plain card; readers find it by
 * its MAC address.
 */
export function networkData(links: readonly GuestLink[]): object {
  return {
    links: links.map((link, index) => ({
      id: linkId(index),
      type: 'phy',
      ethernet_mac_address: link.mac,
      mtu: link.mtu ?? null,
    })),
    networks: links.flatMap((link, index) =>
      [...familyNetworks(link, link.v4, 4), ...familyNetworks(link, link.v6, 6)].map((network, i, all) => ({
        id: `network${index}-${i}`,
        link: linkId(index),
        ...network,
        // It belongs to the card, so it stands once; with DHCP it is told by DHCP.
        ...(network === all.find(isStatic) && dnsSettings(link)),
      })),
    ),
    services: [...new Set(links.flatMap(({ nameservers }) => nameservers))].map(dnsService),
  };
}

function linkId(index: number): string {
  return `link${index}`;
}

function familyNetworks(link: GuestLink, setting: FamilySetting, family: 4 | 6): object[] {
  switch (setting.kind) {
    case 'none':
      return [];
    case 'dhcp':
      return [{ type: `ipv${family}_dhcp` }];
    case 'static':
      return setting.addresses.map(({ address, subnet }, index) => ({
        type: `ipv${family}`,
        ip_address: address,
        netmask: formatMask(subnet),
        // Routes belong to the card, so they stand once.
        routes: (index === 0 ? setting.routes : []).map(({ destination, gateway }) => ({
          network: formatNetwork(destination),
          netmask: formatMask(destination),
          gateway,
        })),
        services: link.nameservers.filter((server) => familyOf(server) === family).map(dnsService),
      }));
  }
}

/**
 * cloud-init's netplan renderer gives a card the document's `services` only where nothing is said of the card's own DNS: so
 * search domains, which have no other place, need the servers beside them.
 */
function dnsSettings({ nameservers, search }: GuestLink): object {
  return search.length === 0 ? {} : { dns_nameservers: nameservers, dns_search: search };
}

function isStatic(network: object): boolean {
  return 'ip_address' in network;
}

function dnsService(address: string): object {
  return { type: 'dns', address };
}
