import { ANNOTATION_PREFIX } from '../../core/annotations.ts';
import { VmError } from '../../core/errors.ts';
import type { GuestDataSpec } from '../../core/guest-data-spec.ts';
import { parseJsonObject } from '../../core/parse-guest-values.ts';
import { quoteName } from '../image-file.ts';
import { environmentFile } from './environment-file.ts';
import type { DriveKind, GuestData, GuestDevice, GuestNic } from './guest-data.ts';
import type { VolumeFile } from './read-volume.ts';
import type { VolumeData } from './volume-data.ts';

/** What neither the pod nor its volumes say. */
export interface GuestFacts {
  readonly uuid: string;
  readonly name: string;
  readonly randomSeed: Uint8Array;
  readonly nics: readonly GuestNic[];
  readonly devices: readonly GuestDevice[];
}

/**
 * Puts together what annotations and volumes say. Documents (user, vendor and network data) have one place; keys, meta data
 * and files add up, with annotations over volumes where both name the same. Nothing is taken apart that belongs to the user.
 * @throws VmError InvalidArgument where a document is given twice or cannot be what it is for.
 */
export function mergeGuestData(
  spec: GuestDataSpec & { readonly kind: DriveKind },
  volumes: VolumeData,
  facts: GuestFacts,
): GuestData {
  const userData = onePlace('user-data', spec.userData, volumes.userData);
  const vendorData = onePlace(
    'vendor-data',
    spec.vendorData === undefined ? undefined : Buffer.from(spec.vendorData),
    volumes.vendorData,
  );
  return {
    ...facts,
    kind: spec.kind,
    hostname: spec.hostname,
    projectId: spec.projectId,
    availabilityZone: spec.availabilityZone,
    meta: { ...volumes.meta, ...spec.meta },
    sshKeys: [...new Set([...volumes.sshKeys, ...spec.sshKeys])],
    userData: userData?.length === 0 ? undefined : userData,
    vendorData: vendorData === undefined || vendorData.length === 0 ? undefined : textOf(vendorData, volumes),
    networkData: networkDocument(spec.kind, volumes.networkData),
    network: spec.network,
    passwordHash: volumes.passwordHash,
    adminPassword: volumes.adminPassword,
    files: [...environmentFile(spec.env), ...volumes.files],
    rootFiles: volumes.answerFiles.map(({ name, content }) => ({ path: name, content })),
  };
}

function onePlace(
  key: 'user-data' | 'vendor-data',
  annotation: Uint8Array | undefined,
  file: VolumeFile | undefined,
): Uint8Array | undefined {
  if (annotation === undefined || file === undefined) return annotation ?? file?.content;
  throw new VmError(
    'InvalidArgument',
    `annotation ${ANNOTATION_PREFIX}${key} and ${quoteName(file.path)} both give the guest’s ${key}; keep one of them`,
  );
}

/** Vendor data goes into a JSON document, which holds text only. */
function textOf(bytes: Uint8Array, { vendorData }: VolumeData): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new VmError(
      'InvalidArgument',
      `${quoteName(vendorData?.path ?? 'vendor-data')} is not UTF-8, which vendor data must be; give text, or use user data`,
      { cause },
    );
  }
}

/** A config drive's is JSON by definition, and its readers give up on a drive with anything else. */
function networkDocument(kind: DriveKind, file: VolumeFile | undefined): Uint8Array | undefined {
  if (file === undefined || kind === 'nocloud') return file?.content;
  const object = parseJsonObject(file.content.toString('utf8'));
  if (object !== undefined && ['links', 'networks', 'services'].every((key) => Array.isArray(object[key])))
    return file.content;
  throw new VmError(
    'InvalidArgument',
    `${quoteName(file.path)} is no network_data.json; give a JSON object with the lists links, networks and services, or set ${ANNOTATION_PREFIX}guest-data to "nocloud" for cloud-init’s own format`,
  );
}
