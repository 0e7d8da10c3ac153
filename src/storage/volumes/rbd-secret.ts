import type { VolumeMount } from '../../core/disk-spec.ts';
import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import { readVolume, type VolumeFile } from '../guest-data/read-volume.ts';
import { quoteName } from '../image-file.ts';

/** Never log `key`. */
export interface RbdSecret {
  /** In base64, as `ceph auth print-key` writes it. */
  readonly key: string;
  /** Without `client.` in front; undefined where the Secret does not say. */
  readonly user: string | undefined;
}

/** Of ceph-csi's Secrets, and of those for Kubernetes' own former driver. */
const KEY_FILES = ['userKey', 'key'];
const USER_FILE = 'userID';

/**
 * A Ceph user as ceph-csi (`userID`, `userKey`) or kubernetes.io/rbd (`key`) has it in a Secret.
 * @param disk the disk's name, for messages.
 * @throws VmError InvalidArgument or NotFound, without a word of the key.
 */
export function readRbdSecret(host: Host, disk: string, volume: VolumeMount): RbdSecret {
  const files = readVolume(host, volume);
  const place = `disk "${disk}": the Secret at ${quoteName(volume.destination)}`;
  const file = files.find(({ name }) => KEY_FILES.includes(name));
  if (file === undefined) {
    const names = files.map(({ name }) => quoteName(name)).join(', ') || 'nothing';
    throw new VmError(
      'InvalidArgument',
      `${place} holds ${names}; put the key of the Ceph user there as "userKey" or "key"`,
    );
  }
  if (file.public) {
    throw new VmError('InvalidArgument', `${place} is a ConfigMap; put the key into a Secret`);
  }
  const key = text(file);
  // Two bytes of type, eight of time, two of length, sixteen of key: CryptoKey of Ceph's src/auth/Crypto.cc.
  if (!/^[A-Za-z0-9+/]{38,200}={0,2}$/.test(key) || key.length % 4 !== 0) {
    throw new VmError(
      'InvalidArgument',
      `${place} has no key of Ceph in "${file.name}"; put there what "ceph auth print-key client.NAME" prints`,
    );
  }
  const named = files.find(({ name }) => name === USER_FILE);
  const user = named === undefined ? undefined : text(named);
  if (user !== undefined && !/^[A-Za-z0-9._-]{1,64}$/.test(user)) {
    throw new VmError(
      'InvalidArgument',
      `${place} has no name of a Ceph user in "${USER_FILE}"; put there NAME of client.NAME`,
    );
  }
  return { key, user };
}

/** Editors end files with a line feed, `kubectl create secret --from-file` keeps it. */
function text({ content }: VolumeFile): string {
  return content.toString('utf8').trim();
}
