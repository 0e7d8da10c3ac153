import type { DriveFile, GuestData } from './guest-data.ts';
import { type FamilySetting, type GuestLink, planGuestLinks } from './guest-links.ts';
import { formatNetwork, type IpNetwork } from './ip-network.ts';
import { jsonDocument } from './json-document.ts';
import { noCloudVendorData } from './vendor-data.ts';

/** cloud-init wants the file even where there is nothing to say, and takes nothing else from an empty one. */
const NO_USER_DATA = Buffer.from('#cloud-config\n{}\n');

/** The files of a NoCloud drive. Source: cloud-init's documentation of the data source and of network config version 2. */
export function nocloudFiles(data: GuestData): DriveFile[] {
  const network = data.networkData ?? jsonDocument(networkConfig(planGuestLinks(data.nics, data.network)));
  const vendor = noCloudVendorData(data);
  return [
    { path: 'meta-data', content: jsonDocument(metaData(data)) },
    { path: 'user-data', content: data.userData ?? NO_USER_DATA },
    { path: 'network-config', content: network },
    ...(vendor === undefined ? [] : [{ path: 'vendor-data', content: vendor }]),
    ...data.rootFiles,
  ];
}

function metaData({ uuid, hostname, sshKeys, availabilityZone, meta }: GuestData): object {
  return {
    'instance-id': uuid,
    'local-hostname': hostname,
    ...(sshKeys.length > 0 && { 'public-keys': sshKeys }),
    'availability-zone': availabilityZone,
    ...(Object.keys(meta).length > 0 && { meta }),
  };
}

/** Cards take the pod's names for them: renderers other than netplan need a name, and this is the one the user knows. */
function networkConfig(links: readonly GuestLink[]): object {
  return { version: 2, ethernets: Object.fromEntries(links.map((link) => [link.name, ethernet(link)])) };
}

function ethernet({ name, mac, mtu, v4, v6, nameservers, search }: GuestLink): object {
  const statics = [v4, v6].filter((setting) => setting.kind === 'static');
  const routes = statics.flatMap((setting) => setting.routes);
  const dns = {
    ...(nameservers.length > 0 && { addresses: nameservers }),
    ...(search.length > 0 && { search }),
  };
  return {
    match: { macaddress: mac },
    'set-name': name,
    ...(mtu !== undefined && { mtu }),
    dhcp4: isDhcp(v4),
    dhcp6: isDhcp(v6),
    ...(statics.length > 0 && {
      addresses: statics.flatMap((setting) =>
        setting.addresses.map(({ address, subnet }) => `${address}/${subnet.prefixLength}`),
      ),
    }),
    ...(routes.length > 0 && {
      routes: routes.map(({ destination, gateway }) => ({ to: formatCidr(destination), via: gateway })),
    }),
    ...(Object.keys(dns).length > 0 && { nameservers: dns }),
  };
}

function isDhcp(setting: FamilySetting): boolean {
  return setting.kind === 'dhcp';
}

function formatCidr(network: IpNetwork): string {
  return `${formatNetwork(network)}/${network.prefixLength}`;
}
