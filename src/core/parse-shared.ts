import { VmError } from './errors.ts';
import { parseJsonObjects } from './json-objects.ts';
import { suggestName } from './nearest-name.ts';
import type { DiskEntry } from './parse-disk-entries.ts';
import { MAX_SHARED, type SharedCache, type SharedDirectory } from './shared-directory.ts';
import { show } from './spec-field.ts';
import type { MachineKind } from './vm-spec.ts';
import { bindMounts, describeVolumes, nameOf } from './volume-mounts.ts';
import type { SpecField } from './spec-field.ts';

export const SHARED_TYPE = 'a JSON list of objects, each with a volume, see storage.md';

/** One object of the annotation `shared-directories`. */
export interface SharedEntry {
  readonly path: string;
  readonly tag: string | undefined;
  readonly readOnly: boolean | undefined;
  readonly cache: SharedCache;
}

const KEYS = ['volume', 'tag', 'readOnly', 'cache'];
const CACHES: readonly SharedCache[] = ['auto', 'always', 'never'];
const TAG = /^[A-Za-z0-9._-]{1,36}$/;

/**
 * The annotation `shared-directories`.
 * @returns undefined for what is no JSON list of objects.
 * @throws VmError InvalidArgument naming the entry and the key.
 */
export function parseSharedEntries(text: string): readonly SharedEntry[] | undefined {
  return parseJsonObjects(text)?.map(parseEntry);
}

function parseEntry(item: Readonly<Record<string, unknown>>, index: number): SharedEntry {
  const wrong = (what: string): VmError =>
    new VmError('InvalidArgument', `annotation vmshim.io/shared-directories, entry ${index + 1}: ${what}`);
  for (const key of Object.keys(item)) {
    if (!KEYS.includes(key)) throw wrong(`unknown key ${show(key)}; ${suggestName(key, KEYS)}`);
  }
  const { volume, tag, readOnly, cache = 'auto' } = item;
  const path = typeof volume === 'string' ? volume.replace(/\/+$/, '') : '';
  if (!path.startsWith('/')) throw wrong(`volume is ${show(volume)}; give the mountPath of a volume`);
  if (tag !== undefined && !(typeof tag === 'string' && TAG.test(tag)))
    throw wrong(`tag is ${show(tag)}; give at most 36 letters, digits, ".", "_" and "-"`);
  if (readOnly !== undefined && typeof readOnly !== 'boolean')
    throw wrong(`readOnly is ${show(readOnly)}; give true or false`);
  const known = CACHES.find((word) => word === cache);
  if (known === undefined) throw wrong(`cache is ${show(cache)}; give ${CACHES.join(' or ')}`);
  return { path, tag, readOnly, cache: known };
}

/**
 * The volumes that the guest gets as directories, in the annotation's order, which decides their places.
 * @throws VmError InvalidArgument
 */
export function parseShared(
  entries: readonly SharedEntry[],
  disks: readonly DiskEntry[],
  spec: SpecField,
  machine: MachineKind,
): readonly SharedDirectory[] {
  if (entries.length === 0) return [];
  if (machine === 'microvm')
    throw invalid('machine "microvm" has no place for shared directories; use machine "q35"');
  if (entries.length > MAX_SHARED)
    throw invalid(`the pod shares ${entries.length} directories; a VM takes at most ${MAX_SHARED}`);
  const mounts = bindMounts(spec.at('mounts'));
  const shared = entries.map((entry) => {
    const mount = mounts.find(({ destination }) => destination === entry.path);
    if (mount === undefined)
      throw invalid(
        `there is no volume at ${show(entry.path)} to share; ${describeVolumes(mounts.map(({ destination }) => destination))}`,
      );
    const disk = disks.find(({ from }) => from.kind === 'volume' && from.path === entry.path);
    if (disk !== undefined)
      throw invalid(
        `the volume at ${show(entry.path)} is the disk "${disk.name}" and a shared directory; remove one of them`,
      );
    if (entry.readOnly === false && mount.readOnly)
      throw invalid(
        `the volume at ${show(entry.path)} is mounted read-only, but shared with readOnly false; leave readOnly out`,
      );
    const access = mount.readOnly || entry.readOnly === true ? 'ro' : 'rw';
    return { tag: entry.tag ?? nameOf(entry.path), mount, access, cache: entry.cache } as const;
  });
  for (const [index, { tag, mount }] of shared.entries()) {
    const other = shared.slice(0, index).find((one) => one.tag === tag || one.mount === mount);
    if (other === undefined) continue;
    throw invalid(
      other.mount === mount
        ? `the volume at ${show(mount.destination)} is shared twice; remove one entry`
        : `two shared directories have the tag ${show(tag)}; give one of them another`,
    );
  }
  return shared;
}

function invalid(what: string): VmError {
  return new VmError('InvalidArgument', `annotation vmshim.io/shared-directories: ${what}`);
}
