import { VmError } from '../../core/errors.ts';
import { suggestName } from '../../core/nearest-name.ts';
import {
  malformed,
  META_TYPE,
  parseJsonObject,
  parseMeta,
  parsePasswordHash,
  parseSshKeys,
  SSH_KEYS_TYPE,
} from '../../core/parse-guest-values.ts';
import { quoteName } from '../image-file.ts';
import type { InjectedFile } from './guest-data.ts';
import type { VolumeFile } from './read-volume.ts';

/** What volumes say, all of them together. A value has one place: two volumes with the same one are refused. */
export interface VolumeData {
  readonly userData: VolumeFile | undefined;
  readonly vendorData: VolumeFile | undefined;
  readonly networkData: VolumeFile | undefined;
  readonly meta: Readonly<Record<string, string>>;
  readonly sshKeys: readonly string[];
  readonly passwordHash: string | undefined;
  readonly adminPassword: string | undefined;
  readonly files: readonly InjectedFile[];
  /** Answer files of Windows' set-up. */
  readonly answerFiles: readonly VolumeFile[];
}

/** Names that files may have, by what they are: ours first, then what Virtlet's, KubeVirt's and cloud-init's users write. */
const NAMES = {
  'user-data': ['userdata', 'user_data'],
  'vendor-data': ['vendordata', 'vendor_data', 'vendor_data.json'],
  'network-data': ['networkdata', 'network_data', 'network_data.json', 'network-config'],
  'ssh-keys': ['authorized_keys', 'ssh-publickey'],
  meta: ['meta.json'],
  'password-hash': [],
  'admin-password': [],
  files: ['files.json'],
  'unattend.xml': [],
  'autounattend.xml': [],
} as const satisfies Record<string, readonly string[]>;

type Key = keyof typeof NAMES;
const KEYS = Object.keys(NAMES) as Key[];

/**
 * Pure.
 * @throws VmError InvalidArgument naming the file, never its content.
 */
export function parseVolumeData(volumes: readonly VolumeFile[]): VolumeData {
  const found = Map.groupBy(volumes, keyOf);
  const all = (key: Key): VolumeFile[] => found.get(key) ?? [];
  const one = (key: Key): VolumeFile | undefined => {
    const [first, second] = all(key);
    if (first === undefined || second === undefined) return first;
    throw new VmError(
      'InvalidArgument',
      `${quoteName(first.path)} and ${quoteName(second.path)} both give the guest’s ${key}; keep one of them`,
    );
  };
  const read = <T>(key: Key, wanted: string, parse: (text: string) => T | undefined): T | undefined => {
    const file = one(key);
    return file === undefined ? undefined : parsed(file, wanted, parse);
  };
  const secret = (
    key: Key,
    wanted: string,
    parse: (text: string) => string | undefined,
  ): string | undefined => {
    const file = one(key);
    if (file?.public === true) {
      throw new VmError(
        'InvalidArgument',
        `${quoteName(file.path)} is a password in a ConfigMap; keep it in a Secret`,
      );
    }
    return file === undefined ? undefined : parsed(file, wanted, parse);
  };
  return {
    userData: one('user-data'),
    vendorData: one('vendor-data'),
    networkData: one('network-data'),
    meta: read('meta', META_TYPE, parseMeta) ?? {},
    sshKeys: all('ssh-keys').flatMap((file) => parsed(file, SSH_KEYS_TYPE, parseSshKeys)),
    passwordHash: secret('password-hash', 'a hash as mkpasswd(1) prints it', parsePasswordHash),
    adminPassword: secret('admin-password', 'one line of at most 127 characters', (text) =>
      /^[^\p{Cc}]{1,127}$/u.test(text) ? text : undefined,
    ),
    files: read('files', 'a JSON object of texts by absolute path', parseFiles) ?? [],
    answerFiles: (['unattend.xml', 'autounattend.xml'] as const).flatMap((key) => one(key) ?? []),
  };
}

function keyOf(file: VolumeFile): Key {
  const name = file.name.toLowerCase();
  const key = KEYS.find((known) => known === name || (NAMES[known] as readonly string[]).includes(name));
  if (key !== undefined) return key;
  throw new VmError(
    'InvalidArgument',
    `${quoteName(file.path)} is no guest data; ${suggestName(name, KEYS)}`,
  );
}

/** Editors and `kubectl create secret --from-file` leave a line feed at the end. */
function parsed<T>(file: VolumeFile, wanted: string, parse: (text: string) => T | undefined): T {
  const value = parse(file.content.toString('utf8').trim());
  if (value === undefined) throw malformed(quoteName(file.path), wanted);
  return value;
}

function parseFiles(text: string): InjectedFile[] | undefined {
  const object = parseJsonObject(text);
  if (object === undefined) return undefined;
  const files = Object.entries(object).flatMap(([path, content]) => {
    const sound = /^\/[^\p{Cc}]{1,4094}$/u.test(path) && !path.split('/').includes('..');
    return sound && typeof content === 'string' ? [{ path, content: Buffer.from(content) }] : [];
  });
  return files.length === Object.keys(object).length ? files : undefined;
}
