import { ANNOTATION_PREFIX, type AnnotationValues } from './annotations.ts';
import { VmError } from './errors.ts';
import type { EnvVariable, GuestDataSpec, GuestDataVolume } from './guest-data-spec.ts';
import type { SpecField } from './spec-field.ts';
import type { VmOwner } from './vm-spec.ts';

/** Volumes mounted here or below are read for the guest. */
export const GUEST_DATA_MOUNT = '/vmshim/guest-data';

/** What containerd puts into every container's environment. */
const CONTAINER_ENV = new Set(['PATH', 'HOSTNAME', 'TERM', 'HOME']);

/**
 * The annotations, mounts and environment of the OCI spec that are for the guest.
 * @throws VmError InvalidArgument for user data that is given twice.
 */
export function parseGuestData(
  said: AnnotationValues,
  spec: SpecField,
  vm: { readonly name: string; readonly namespace: string; readonly owner: VmOwner },
): GuestDataSpec {
  if (said['user-data'] !== undefined && said['user-data-base64'] !== undefined) {
    throw new VmError(
      'InvalidArgument',
      `annotations ${ANNOTATION_PREFIX}user-data and ${ANNOTATION_PREFIX}user-data-base64 are both set; keep one of them`,
    );
  }
  return {
    kind: said['guest-data'] ?? 'config-drive',
    hostname: said.hostname ?? hostnameFrom(vm.name),
    availabilityZone: said['availability-zone'] ?? 'nova',
    projectId: vm.owner.kind === 'pod' ? vm.owner.namespace : vm.namespace,
    userData: said['user-data'] ?? said['user-data-base64'],
    vendorData: said['vendor-data'],
    meta: said.meta ?? {},
    sshKeys: said['ssh-keys'] ?? [],
    env: parseEnv(spec.at('process').at('env')),
    network: said['guest-network'] ?? 'static',
    volumes: parseVolumes(spec.at('mounts')),
  };
}

/** Ids of bare containers may hold what a host name may not. */
function hostnameFrom(name: string): string {
  const labels = name
    .split('.')
    .map((label) =>
      label
        .replaceAll(/[^A-Za-z0-9-]/g, '-')
        .slice(0, 63)
        .replaceAll(/^-+|-+$/g, ''),
    )
    .filter((label) => label !== '');
  return labels.join('.') || 'vm';
}

/** The first `=` ends the name; what has none is no variable. */
function parseEnv(field: SpecField): EnvVariable[] {
  return field.items().flatMap((item) => {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(item.text() ?? '') ?? [];
    if (name === undefined || value === undefined || CONTAINER_ENV.has(name)) return [];
    return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !value.includes('\0') ? [{ name, value }] : [];
  });
}

function parseVolumes(mounts: SpecField): GuestDataVolume[] {
  return mounts
    .items()
    .flatMap((mount) => {
      const destination = (mount.at('destination').text() ?? '').replace(/\/+$/, '');
      if (destination !== GUEST_DATA_MOUNT && !destination.startsWith(`${GUEST_DATA_MOUNT}/`)) return [];
      const source = mount.at('source').text() ?? '';
      if (!source.startsWith('/')) throw mount.at('source').invalid('the absolute path of a directory');
      return [{ destination, source }];
    })
    .sort((a, b) => (a.destination < b.destination ? -1 : 1));
}
