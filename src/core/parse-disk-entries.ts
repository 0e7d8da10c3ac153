import type { DiskAccess, DiskCache, DiskDevice, FilesFormat, RbdImage, VolumeBus } from './disk-spec.ts';
import { VmError } from './errors.ts';
import { parseJsonObjects } from './json-objects.ts';
import { parseMonitorList } from './monitor-address.ts';
import { suggestName } from './nearest-name.ts';
import { parseQuantity } from './quantity.ts';
import { show } from './spec-field.ts';

/** One object of the annotation `disks`; what it leaves out is decided when the volumes are known. */
export interface DiskEntry {
  readonly name: string;
  readonly from: EntrySource;
  readonly device: DiskDevice;
  readonly bus: VolumeBus | undefined;
  readonly boot: number | undefined;
  readonly cache: DiskCache;
  readonly serial: string | undefined;
  readonly access: DiskAccess | undefined;
  readonly discard: boolean;
}

export type EntrySource =
  | {
      readonly kind: 'volume';
      readonly path: string;
      readonly file: string | undefined;
      readonly files: FilesFormat | undefined;
      readonly label: string | undefined;
    }
  | { readonly kind: 'empty'; readonly bytes: number }
  | { readonly kind: 'host'; readonly path: string }
  | RbdEntry;

/** What is said of an image; its Secret by the mountPath. */
export interface RbdEntry extends Omit<RbdImage, 'secret'> {
  readonly secret: string;
}

export const DISKS_TYPE = 'a JSON list of objects, each with a name and a source, see storage.md';
const MAX_DISK_BYTES = 64 * 2 ** 40;
/** Of virtio-blk's serial; names become serials. */
export const MAX_NAME = 20;
const NAME = /^[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?$/;
/** Serials that the VM's own disks have. */
const RESERVED = ['root', 'guest-data'];

/** Everything an object may say, and what a value must be. */
const KEYS = {
  name: field(`at most ${MAX_NAME} of a-z, 0-9 and "-", and neither "root" nor "guest-data"`, (value) =>
    matching(value, NAME) && !RESERVED.includes(value as string) ? (value as string) : undefined,
  ),
  volume: field('the mountPath or devicePath of a volume', parsePath),
  empty: field('a size such as "10Gi", at most 64Ti', (value) => {
    const bytes = typeof value === 'string' ? parseQuantity(value) : undefined;
    return bytes !== undefined && bytes > 0 && bytes <= MAX_DISK_BYTES ? bytes : undefined;
  }),
  host: field('an absolute path of the node, without ".."', parsePath),
  rbd: field('"pool/image", "pool/namespace/image", or either with "@snapshot" behind it', parseImageName),
  monitors: field('a list of "host:port"', parseMonitorList),
  secret: field('the mountPath of a Secret', parsePath),
  user: field('the name of a Ceph user', (value) => asMatching(value, /^[A-Za-z0-9._-]{1,64}$/)),
  file: field('the name of a file in the volume', (value) =>
    value === '.' || value === '..' ? undefined : asMatching(value, /^[^\p{Cc}/]{1,255}$/u),
  ),
  files: word<FilesFormat>(['vfat', 'iso']),
  label: field('at most 11 letters, digits, "-" and "_"', (value) =>
    asMatching(value, /^[A-Za-z0-9_-]{1,11}$/),
  ),
  device: word<DiskDevice>(['disk', 'cdrom']),
  bus: word<VolumeBus>(['virtio', 'scsi', 'sata', 'usb']),
  boot: field('a whole number from 1 to 200 other than 100, which is the root disk’s', (value) =>
    typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 200 && value !== 100
      ? value
      : undefined,
  ),
  cache: word<DiskCache>(['auto', 'none', 'writeback']),
  serial: field('at most 20 letters, digits, ".", "_" and "-"', (value) =>
    RESERVED.includes(value as string) ? undefined : asMatching(value, /^[A-Za-z0-9._-]{1,20}$/),
  ),
  readOnly: field('true or false', (value) => (typeof value === 'boolean' ? value : undefined)),
  discard: field('true or false', (value) => (typeof value === 'boolean' ? value : undefined)),
};

const SOURCES = ['volume', 'empty', 'host', 'rbd'] as const;

/** Which source each of these belongs to. */
const ONLY_WITH = {
  file: 'volume',
  files: 'volume',
  label: 'volume',
  monitors: 'rbd',
  user: 'rbd',
  secret: 'rbd',
} as const;

/**
 * The annotation `disks`.
 * @returns undefined for what is no JSON list of objects.
 * @throws VmError InvalidArgument naming the entry and the key.
 */
export function parseDiskEntries(text: string): readonly DiskEntry[] | undefined {
  const list = parseJsonObjects(text);
  if (list === undefined) return undefined;
  const entries: DiskEntry[] = [];
  for (const [index, item] of list.entries()) {
    const entry = new Entry(item, index).parse();
    if (entries.some(({ name }) => name === entry.name))
      throw wrong(index, `name "${entry.name}" is there twice; each disk has a name of its own`);
    entries.push(entry);
  }
  return entries;
}

class Entry {
  readonly #item: Readonly<Record<string, unknown>>;
  readonly #index: number;

  constructor(item: Readonly<Record<string, unknown>>, index: number) {
    this.#item = item;
    this.#index = index;
  }

  parse(): DiskEntry {
    for (const key of Object.keys(this.#item)) {
      if (Object.hasOwn(KEYS, key)) continue;
      throw wrong(this.#index, `unknown key ${show(key)}; ${suggestName(key, Object.keys(KEYS))}`);
    }
    const readOnly = this.#read('readOnly');
    return {
      name: this.#need('name'),
      from: this.#source(),
      device: this.#read('device') ?? 'disk',
      bus: this.#read('bus'),
      boot: this.#read('boot'),
      cache: this.#read('cache') ?? 'auto',
      serial: this.#read('serial'),
      access: readOnly === undefined ? undefined : readOnly ? 'ro' : 'rw',
      discard: this.#read('discard') ?? true,
    };
  }

  #source(): EntrySource {
    const given = SOURCES.filter((key) => this.#item[key] !== undefined);
    const [kind] = given;
    if (kind === undefined || given.length > 1) {
      const many = kind === undefined ? 'no source' : `several sources (${given.join(', ')})`;
      throw wrong(this.#index, `there is ${many}; give exactly one of ${SOURCES.join(', ')}`);
    }
    for (const [key, source] of Object.entries(ONLY_WITH)) {
      if (this.#item[key] !== undefined && source !== kind)
        throw wrong(this.#index, `${key} goes with ${source} only; remove it`);
    }
    switch (kind) {
      case 'volume': {
        const [file, files] = [this.#read('file'), this.#read('files')];
        if (file !== undefined && files !== undefined)
          throw wrong(this.#index, 'file and files are both set; keep one of them');
        return { kind, path: this.#need('volume'), file, files, label: this.#read('label') };
      }
      case 'empty':
        return { kind, bytes: this.#need('empty') };
      case 'host':
        return { kind, path: this.#need('host') };
      case 'rbd':
        return {
          kind,
          ...this.#need('rbd'),
          monitors: this.#read('monitors') ?? [],
          user: this.#read('user'),
          secret: this.#need('secret'),
        };
    }
  }

  #need<K extends keyof typeof KEYS>(key: K): Value<K> {
    const value = this.#read(key);
    if (value !== undefined) return value;
    throw wrong(this.#index, `${key} is missing; give ${KEYS[key].type}`);
  }

  #read<K extends keyof typeof KEYS>(key: K): Value<K> | undefined {
    const value = Object.hasOwn(this.#item, key) ? this.#item[key] : undefined;
    if (value === undefined) return undefined;
    const parsed = KEYS[key].parse(value);
    if (parsed === undefined) throw wrong(this.#index, `${key} is ${show(value)}; give ${KEYS[key].type}`);
    return parsed as Value<K>;
  }
}

type Value<K extends keyof typeof KEYS> = Exclude<ReturnType<(typeof KEYS)[K]['parse']>, undefined>;

interface Field<T> {
  readonly type: string;
  /** Undefined for a wrong value. */
  readonly parse: (value: unknown) => T | undefined;
}

function field<T>(type: string, parse: (value: unknown) => T | undefined): Field<T> {
  return { type, parse };
}

function word<T extends string>(words: readonly T[]): Field<T> {
  return { type: words.join(' or '), parse: (value) => words.find((word) => word === value) };
}

function matching(value: unknown, pattern: RegExp): boolean {
  return typeof value === 'string' && pattern.test(value);
}

function asMatching(value: unknown, pattern: RegExp): string | undefined {
  return matching(value, pattern) ? (value as string) : undefined;
}

function parsePath(value: unknown): string | undefined {
  const path = asMatching(value, /^\/[^\p{Cc}]{1,4094}$/u)?.replace(/\/+$/, '');
  return path === undefined || path === '' || path.split('/').includes('..') ? undefined : path;
}

/** Ceph's way to write it, within what pools and images are named by those who make them for VMs. */
function parseImageName(
  value: unknown,
): Pick<RbdImage, 'pool' | 'namespace' | 'image' | 'snapshot'> | undefined {
  const name = '([A-Za-z0-9._-]{1,128})';
  const [, pool, namespace, image, snapshot] =
    new RegExp(`^${name}/(?:${name}/)?${name}(?:@${name})?$`).exec(String(value)) ?? [];
  return pool === undefined || image === undefined ? undefined : { pool, namespace, image, snapshot };
}

function wrong(index: number, what: string): VmError {
  return new VmError('InvalidArgument', `annotation vmshim.io/disks, entry ${index + 1}: ${what}`);
}
