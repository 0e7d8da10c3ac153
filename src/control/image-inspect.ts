import { VmError } from '../core/errors.ts';
import { expectBootable, type ImageProbe, parseImageFormat } from '../storage/image-format.ts';
import { parseQcow2Header, QCOW2_MAGIC } from '../storage/qcow2-header.ts';
import { probeForeignDisk } from '../storage/foreign-disk.ts';
import type { RootfsEntry, Rootfs } from './layer-entries.ts';

/** What a disk is, and whether a VM boots from it. */
export interface DiskReport {
  /** Undefined for what is refused before its format matters. */
  readonly format: string | undefined;
  /** Bytes the guest sees; undefined where only a conversion tells. */
  readonly virtualSize: number | undefined;
  readonly fileBytes: number;
  /** As a qcow2 header names it; such a disk is refused. */
  readonly backingFile: string | undefined;
  /** Why a VM would not boot from it as it is; undefined when it would. */
  readonly refusal: string | undefined;
}

/** @param hasKernel whether it need not boot by itself. */
export function inspectDisk(probe: ImageProbe, hasKernel: boolean): DiskReport {
  const { fileBytes } = probe;
  const unknown = { format: undefined, virtualSize: undefined, fileBytes, backingFile: undefined };
  const [format, refusal] = attempt(() => parseImageFormat(probe));
  if (format === undefined) return { ...unknown, ...guess(probe), refusal };
  const [, notBootable] = hasKernel ? [] : attempt(() => expectBootable(format, probe.name));
  return { ...unknown, format: format.format, virtualSize: format.virtualSize, refusal: notBootable };
}

/** What can be said of a disk that is refused. */
function guess(probe: ImageProbe): Partial<DiskReport> {
  const { name, head, fileBytes } = probe;
  if (head.length >= 4 && head.readUInt32BE(0) === QCOW2_MAGIC) {
    const [header] = attempt(() => parseQcow2Header(head, { name, fileBytes, backing: 'allowed' }));
    return { format: 'qcow2', virtualSize: header?.virtualSize, backingFile: header?.backing?.file };
  }
  const [foreign] = attempt(() => probeForeignDisk(probe));
  return { format: foreign };
}

/** The disk of an image's root file system, by the rules of `findImageDisk`, which looks at one that is mounted. */
export function findRootfsDisk(
  rootfs: Rootfs,
): { readonly path: string; readonly entry: RootfsEntry } | { readonly refusal: string } {
  const found = [...rootfs].filter(
    ([path]) => /^\/disk\/[^/]+$/.test(path) && !/^\/disk\/(\.|lost\+found$)/.test(path),
  );
  const [first] = found;
  const remedy = 'an image for a VM has exactly one qcow2 or raw file in /disk';
  if (first === undefined)
    return { refusal: `the image has no file in /disk, so no disk to boot; ${remedy}` };
  const [path, entry] = first;
  if (found.length > 1) {
    const names = found.slice(0, 5).map(([name]) => JSON.stringify(name));
    return { refusal: `the image’s /disk holds ${found.length} entries (${names.join(', ')}); ${remedy}` };
  }
  if (entry.kind !== 'file')
    return { refusal: `${JSON.stringify(path)} in the image is no regular file; ${remedy}` };
  return { path, entry };
}

function attempt<T>(run: () => T): [value: T, refusal: undefined] | [value: undefined, refusal: string] {
  try {
    return [run(), undefined];
  } catch (error) {
    if (!VmError.is(error, 'InvalidArgument')) throw error;
    return [undefined, error.message];
  }
}
