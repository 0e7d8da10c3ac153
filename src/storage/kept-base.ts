import { setImmediate as turn } from 'node:timers/promises';
import type { KeepBase } from '../core/parse-choices.ts';
import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { errnoName } from '../host/linux-errno.ts';
import { openFlags } from '../host/open-flags.ts';
import { type BaseIdentity, readBaseIdentity, renderBaseName } from './base-identity.ts';
import { type DiskImage, readDiskImage } from './disk-image.ts';
import type { ImageDisk } from './image-disk.ts';
import { openImageDirectory } from './image-file.ts';
import { fdPath } from './open-directory.ts';
import type { DiskFormat } from './image-format.ts';
import { parentOf, syncDirectory } from './publish-file.ts';

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = openFlags;
const NAME = /^([0-9a-f]{32})-(\d+)-(-?\d+)\.(qcow2|raw)$/;
const COPY_BYTES = 1 << 20;

/** Where the images below pods' disks are kept, so that a pod outlives what containerd does with its image. */
export interface BaseStore {
  /** `data_dir/bases`. */
  readonly directory: string;
  readonly mode: KeepBase;
  /** Directories of the host whose union is the image, the uppermost first; none where there are no such. */
  readonly layers: readonly string[];
}

export interface KeptBase {
  readonly identity: BaseIdentity;
  readonly format: DiskFormat;
}

export function keptBaseName({ identity, format }: KeptBase): string {
  return `${identity.fingerprint}-${identity.fileBytes}-${identity.mtime}.${format}`;
}

/** @returns undefined for a name that is none of ours. */
export function parseKeptBaseName(name: string): KeptBase | undefined {
  const [, fingerprint, fileBytes, mtime, format] = NAME.exec(name) ?? [];
  if (fingerprint === undefined || (format !== 'qcow2' && format !== 'raw')) return undefined;
  return { identity: { fingerprint, fileBytes: Number(fileBytes), mtime: Number(mtime) }, format };
}

/**
 * A kept base, opened for reading; the caller closes it.
 * @returns undefined when there is none, or one that was cut off by a failing disk.
 */
export function openKeptBase(host: Host, directory: string, base: KeptBase): DiskImage | undefined {
  const path = `${directory}/${keptBaseName(base)}`;
  const info = host.inspect(path);
  if (info?.kind !== 'file' || info.size !== base.identity.fileBytes) return undefined;
  using open = new DisposableStack();
  const fd = open.use(host.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  const image = readDiskImage(host, fd, `"${path}"`);
  if (image.format !== base.format) return undefined;
  open.move();
  return image;
}

/**
 * Keeps an image's disk under its identity, unless it is kept already. A hard link into containerd's snapshot costs
 * neither time nor space and outlives the snapshot, whose files nobody changes; where that is another file system a
 * reflink does the same; only with `copy` the bytes are copied.
 * @returns the kept disk, or undefined where keeping it is not free and nobody asked for a copy.
 * @throws VmError ResourceExhausted when a copy does not fit; Canceled.
 */
export async function keepBase(
  host: Host,
  store: BaseStore,
  image: ImageDisk,
  signal: AbortSignal | undefined,
): Promise<DiskImage | undefined> {
  if (store.mode === 'off') return undefined;
  const base: KeptBase = { identity: readBaseIdentity(host, image), format: image.format };
  const known = openKeptBase(host, store.directory, base);
  if (known !== undefined) return known;
  host.makeDir(store.directory, 0o700);
  const path = `${store.directory}/${keptBaseName(base)}`;
  const draft = `${path}.${process.pid}.new`;
  host.remove(draft);
  try {
    const same =
      linkLayer(host, store.layers, image, draft) && isBase(host, draft, base, image)
        ? true
        : cloneFile(host, image, draft);
    if (!same) {
      if (store.mode !== 'copy') return undefined;
      await copyFile(host, image, draft, signal);
    }
    publish(host, draft, path);
  } finally {
    host.remove(draft);
  }
  return openKeptBase(host, store.directory, base);
}

/** Another VM of the same image may have come first. */
function publish(host: Host, draft: string, path: string): void {
  // A base that was found too short is in the way; nobody can use it.
  const damaged = host.inspect(path);
  if (damaged !== undefined && damaged.size !== host.inspect(draft)?.size) host.remove(path);
  try {
    host.link(draft, path);
  } catch (error) {
    if (!VmError.is(error, 'AlreadyExists')) throw error;
  }
  syncDirectory(host, parentOf(path));
}

/**
 * Layers came with the image: no symbolic link in them is followed, and what was linked is looked at again under a name
 * that is ours alone.
 */
function linkLayer(host: Host, layers: readonly string[], image: ImageDisk, draft: string): boolean {
  const name = image.path.slice(image.path.lastIndexOf('/') + 1);
  for (const layer of layers) {
    try {
      using directory = openImageDirectory(host, layer, parentOf(image.path));
      const entry = fdPath(directory, name);
      if (host.inspect(entry) === undefined) continue;
      host.link(entry, draft);
      return true;
    } catch (error) {
      if (VmError.is(error, 'InvalidArgument')) continue;
      // Another file system, or one without hard links, or with no room for another name.
      if (['EXDEV', 'EPERM', 'EMLINK', 'EOPNOTSUPP'].includes(errnoName(error) ?? '')) return false;
      throw error;
    }
  }
  return false;
}

/** An overlay file system may have shown another file than the one that a layer has under this name. */
function isBase(host: Host, draft: string, { identity }: KeptBase, image: ImageDisk): boolean {
  if (host.inspect(draft)?.kind === 'file') {
    using fd = host.open(draft, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    const { size: fileBytes, mtimeMs } = host.inspectFd(fd.fd);
    const found = readBaseIdentity(host, { ...image, fd, fileBytes, mtimeMs });
    if (renderBaseName(found) === renderBaseName(identity)) return true;
  }
  host.remove(draft);
  return false;
}

function cloneFile(host: Host, image: ImageDisk, draft: string): boolean {
  const cloned = host.cloneFile(`/proc/self/fd/${image.fd.fd}`, draft);
  if (!cloned) host.remove(draft);
  else sync(host, draft);
  return cloned;
}

function sync(host: Host, path: string): void {
  using file = host.open(path, O_RDONLY | O_NOFOLLOW);
  host.sync(file.fd);
}

async function copyFile(
  host: Host,
  { fd, fileBytes }: ImageDisk,
  draft: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  using file: OwnedFd = host.open(draft, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  const zeros = Buffer.alloc(COPY_BYTES);
  for (let at = 0; at < fileBytes; at += COPY_BYTES) {
    if (signal?.aborted === true) throw VmError.from(signal.reason);
    const chunk = host.readBytes(fd.fd, at, COPY_BYTES);
    const last = at + COPY_BYTES >= fileBytes;
    // Holes stay holes; the last piece gives the file its size.
    if (last || !chunk.equals(zeros)) host.writeBytes(file.fd, at, chunk);
    await turn();
  }
  host.sync(file.fd);
}
