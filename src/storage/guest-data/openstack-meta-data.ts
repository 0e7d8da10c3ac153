import type { GuestData, GuestDevice } from './guest-data.ts';

/**
 * meta_data.json as the given version has it. Source: Nova's nova/api/metadata/base.py. `public_keys` is what cloud-init
 * and cloudbase-init read, `keys` what came later.
 * @param version a date, or `latest`.
 */
export function metaData(data: GuestData, version: string): object {
  const keys = data.sshKeys.map((key, index) => ({ name: keyName(index), type: 'ssh', data: key }));
  return {
    uuid: data.uuid,
    ...(Object.keys(data.meta).length > 0 && { meta: data.meta }),
    ...(data.files.length > 0 && {
      files: data.files.map(({ path }, index) => ({ path, content_path: contentPath(index) })),
    }),
    ...(data.adminPassword !== undefined && { admin_pass: data.adminPassword }),
    ...(keys.length > 0 && {
      public_keys: Object.fromEntries(keys.map(({ name, data: key }) => [name, key])),
      keys,
    }),
    hostname: data.hostname,
    name: data.name,
    launch_index: 0,
    availability_zone: data.availabilityZone,
    ...(version >= '2013-04-04' && { random_seed: Buffer.from(data.randomSeed).toString('base64') }),
    ...(version >= '2015-10-15' && { project_id: data.projectId }),
    ...(version >= '2016-06-30' && { devices: data.devices.map(device) }),
    ...(version >= '2020-10-14' && { dedicated_cpus: [] }),
  };
}

/** Where an injected file lies, below `openstack`. */
export function contentPath(index: number): string {
  return `/content/${String(index).padStart(4, '0')}`;
}

function keyName(index: number): string {
  return `key-${index}`;
}

function device(place: GuestDevice): object {
  const { type, bus, address } = place;
  return place.type === 'nic'
    ? { type, bus, address, tags: [], mac: place.mac }
    : { type, bus, address, tags: place.tags, serial: place.serial };
}
