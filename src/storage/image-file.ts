import { VmError } from '../core/errors.ts';
import type { FileInfo, Host, OwnedFd } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';
import { fdPath, openDirectoryBelow } from './open-directory.ts';

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = openFlags;

/** What a path inside an image names. */
export interface ImageEntry {
  readonly kind: FileInfo['kind'];
  readonly fd: OwnedFd;
}

/** Text that came with an image, fit for a message: quoted, without control characters, not endless. */
export function quoteName(text: string): string {
  const short = text.length > 120 ? `${text.slice(0, 120)}…` : text;
  return JSON.stringify(short).replaceAll(/[\u007f-\u009f\u200b-\u200f\u2028-\u202e]/gu, '?');
}

/**
 * Opens a regular file of the image for reading. Every component is opened by itself and none may be a symbolic link,
 * since a link of a hostile image could lead to the host's files; devices and fifos are never opened.
 * @param path absolute, inside the image.
 * @throws VmError InvalidArgument for `..`, a symbolic link a path that is not there, or anything but a regular file.
 */
export function openImageFile(host: Host, rootfs: string, path: string): OwnedFd {
  const parts = imagePathParts(path);
  const name = parts.pop();
  if (name === undefined)
    throw new VmError(
      'InvalidArgument',
      `image path ${quoteName(path)} names no file; give one like "/boot/vmlinuz"`,
    );
  using directory = openImageDirectory(host, rootfs, `/${parts.join('/')}`);
  return openFileIn(host, directory, name, path);
}

/** Opens a directory of the image by `O_PATH`, with the same rules. */
export function openImageDirectory(host: Host, rootfs: string, path: string): OwnedFd {
  return openDirectoryBelow(host, rootfs, imagePathParts(path), (kind, reached) =>
    kind === undefined ? absent(reached) : notA('directory', kind, reached),
  );
}

/**
 * Opens one entry of an opened directory, which has to be a regular file. O_NONBLOCK and the second look through the
 * descriptor cover an entry that changed since it was looked at.
 */
export function openFileIn(host: Host, directory: OwnedFd, name: string, path: string): OwnedFd {
  const kind = kindIn(host, directory, name, path);
  if (kind !== 'file') throw notA('regular file', kind, path);
  const file = host.open(fdPath(directory, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  const opened = host.inspectFd(file.fd).kind;
  if (opened === 'file') return file;
  file[Symbol.dispose]();
  throw notA('regular file', opened, path);
}

function kindIn(host: Host, directory: OwnedFd, name: string, path: string): FileInfo['kind'] {
  const info = host.inspect(fdPath(directory, name));
  if (info === undefined) throw absent(path);
  return info.kind;
}

function absent(path: string): VmError {
  return new VmError('InvalidArgument', `the image has no ${quoteName(path)}; name a file that is in it`);
}

function notA(wanted: string, kind: FileInfo['kind'], path: string): VmError {
  const is = kind === 'symlink' ? 'a symbolic link, which is never followed in an image' : `a ${kind}`;
  return new VmError('InvalidArgument', `${quoteName(path)} in the image is ${is}; put a ${wanted} there`);
}

function imagePathParts(path: string): string[] {
  const bad = (why: string): never => {
    throw new VmError(
      'InvalidArgument',
      `image path ${quoteName(path)} ${why}; give an absolute path inside the image`,
    );
  };
  if (!path.startsWith('/')) bad('is not absolute');
  if (path.includes('\0')) bad('has a zero byte');
  const parts = path.split('/').filter((part) => part !== '');
  if (parts.includes('..') || parts.includes('.')) bad('has a "." or ".." in it');
  return parts;
}
