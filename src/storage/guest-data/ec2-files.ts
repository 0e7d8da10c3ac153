import type { DriveFile, GuestData } from './guest-data.ts';
import { familyOf } from './ip-network.ts';
import { jsonDocument } from './json-document.ts';

/** What Nova's `config_drive_skip_versions` leaves of the EC2 versions unless it was changed. */
const VERSIONS = ['2009-04-04', 'latest'];

/**
 * The `ec2` tree of a config drive, for readers that look at nothing else. The ids are made from the UUID: there is no
 * counter of instances to take them from. Source: Nova's nova/api/metadata/base.py.
 */
export function ec2Files(data: GuestData): DriveFile[] {
  const id = data.uuid.replaceAll('-', '').slice(0, 8);
  const addresses = data.nics.flatMap((nic) => nic.addresses).map(({ address }) => address);
  const metaData = jsonDocument({
    'ami-id': 'None',
    'ami-launch-index': 0,
    'ami-manifest-path': 'FIXME',
    'block-device-mapping': { ami: 'vda', root: '/dev/vda' },
    hostname: data.hostname,
    'instance-action': 'none',
    'instance-id': `i-${id}`,
    'instance-type': 'vm',
    'local-hostname': data.hostname,
    'local-ipv4': addresses.find((address) => familyOf(address) === 4) ?? null,
    placement: { 'availability-zone': data.availabilityZone },
    'public-hostname': data.hostname,
    'public-ipv4': null,
    'reservation-id': `r-${id}`,
    'security-groups': [],
    ...(data.sshKeys.length > 0 && {
      'public-keys': Object.fromEntries(
        data.sshKeys.map((key, index) => [String(index), { 'openssh-key': key }]),
      ),
    }),
  });
  return VERSIONS.flatMap((version) => [
    { path: `ec2/${version}/meta-data.json`, content: metaData },
    ...(data.userData === undefined ? [] : [{ path: `ec2/${version}/user-data`, content: data.userData }]),
  ]);
}
