import { ec2Files } from './ec2-files.ts';
import { contentPath, metaData } from './openstack-meta-data.ts';
import { networkData } from './openstack-network-data.ts';
import type { DriveFile, GuestData } from './guest-data.ts';
import { planGuestLinks } from './guest-links.ts';
import { jsonDocument } from './json-document.ts';
import { vendorData } from './vendor-data.ts';

/** Every version of the metadata that Nova writes, oldest first. A reader takes the newest that it knows. */
const VERSIONS = [
  '2012-08-10',
  '2013-04-04',
  '2013-10-17',
  '2015-10-15',
  '2016-06-30',
  '2016-10-06',
  '2017-02-22',
  '2018-08-27',
  '2020-10-14',
  '2025-04-04',
  'latest',
] as const;

/** Since when a document exists; versions are dates, and `latest` sorts behind all of them. */
const SINCE = { vendorData: '2013-10-17', networkData: '2015-10-15', vendorData2: '2016-10-06' };

/**
 * Bytes of user data from which on only `latest` is written, which is enough for every reader: the same bytes twelve times
 * over are more than a node should hold for one VM.
 */
const FEW_VERSIONS_FROM = 1 << 20;

/**
 * The files of an OpenStack config drive. Source: Nova's nova/virt/configdrive.py and nova/api/metadata/base.py, and what
 * cloud-init, Ignition and cloudbase-init read of it.
 */
export function openstackFiles(data: GuestData): DriveFile[] {
  const large = (data.userData?.length ?? 0) >= FEW_VERSIONS_FROM;
  const network = data.networkData ?? jsonDocument(networkData(planGuestLinks(data.nics, data.network)));
  const vendor = vendorData(data);
  const vendor2 = jsonDocument({ static: vendor.value });
  const versions = large ? VERSIONS.slice(-1) : VERSIONS;
  return [
    ...(large ? [] : ec2Files(data)),
    ...data.files.map(({ content }, index) => ({ path: `openstack${contentPath(index)}`, content })),
    ...versions.flatMap((version) => {
      const file = (name: string, content: Uint8Array): DriveFile => ({
        path: `openstack/${version}/${name}`,
        content,
      });
      return [
        file('meta_data.json', jsonDocument(metaData(data, version))),
        ...(data.userData === undefined ? [] : [file('user_data', data.userData)]),
        ...(version >= SINCE.vendorData ? [file('vendor_data.json', vendor.document)] : []),
        ...(version >= SINCE.networkData ? [file('network_data.json', network)] : []),
        ...(version >= SINCE.vendorData2 ? [file('vendor_data2.json', vendor2)] : []),
      ];
    }),
    ...data.rootFiles,
  ];
}
