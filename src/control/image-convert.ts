import { setImmediate as turn } from 'node:timers/promises';
import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { type ForeignFormat, probeForeignDisk } from '../storage/foreign-disk.ts';
import { expectBootable, type ImageProbe, parseImageFormat } from '../storage/image-format.ts';
import { readImageProbe } from '../storage/disk-image.ts';
import { runConfined } from './confined-program.ts';
import type { ImportReport } from './import-report.ts';
import type { WorkFile } from './image-source.ts';
import { SpaceLimit } from './space-limit.ts';

const QEMU_IMG = '/usr/bin/qemu-img';
const CHUNK = 2 ** 20;
/** The file's own descriptors in the program that converts it. */
const FROM = 3;
const TO = 4;
const WORLD_READABLE = 0o004;

/** What a disk is converted from. */
export type SourceFormat = 'qcow2' | 'raw' | ForeignFormat;

/**
 * Tells what a disk is by its contents, so that no program has to guess.
 * @throws VmError InvalidArgument for a disk that is refused, or that is raw and nothing could boot from.
 */
export function probeDisk(probe: ImageProbe, needsBootSector: boolean): SourceFormat {
  const foreign = probeForeignDisk(probe);
  if (foreign !== undefined) return foreign;
  const format = parseImageFormat(probe);
  if (needsBootSector) expectBootable(format, probe.name);
  return format.format;
}

/**
 * Makes a disk a qcow2 image: one that is so already stays as it is, others are converted, which also drops what is
 * empty. qemu-img reads what the image's maker wrote, so it runs confined and is told the format.
 * Source: OpenStack's advice after CVE-2024-32498 and CVE-2022-47951.
 */
export async function convertToQcow2(
  host: Host,
  file: WorkFile,
  options: { readonly tempDir: string; readonly maxSize: number; readonly needsBootSector: boolean },
  files: DisposableStack,
  report: ImportReport,
): Promise<{ readonly file: WorkFile; readonly from: SourceFormat }> {
  const from = probeDisk(readImageProbe(host, file.fd, file.name), options.needsBootSector);
  if (from === 'qcow2') return { file, from };
  const { tempDir, maxSize } = options;
  const { signal, step } = report;
  using readable = await makeReadable(host, file, tempDir, report);
  step(`converting (${from} to qcow2)`);
  const limit = new SpaceLimit(host, tempDir, maxSize);
  // Nobody reaches it by a name, so its mode is for the program alone, which opens it anew through its descriptor.
  const { fd } = files.use(host.temporaryFile(tempDir, 0o666));
  const path = (number: number): string => `/proc/self/fd/${number}`;
  await runConfined(
    host,
    {
      file: QEMU_IMG,
      args: ['convert', '-f', from, '-O', 'qcow2', path(FROM), path(TO)],
      fds: { stdin: null, stdout: null, more: [readable.fd, fd] },
      limit,
    },
    { what: `converting ${file.name} from ${from}`, tempDir, signal },
  );
  return { file: { fd, size: host.inspectFd(fd).size, name: file.name }, from };
}

/** A file that only its owner may read is copied: the program that converts is nobody. */
async function makeReadable(
  host: Host,
  { fd, size, name }: WorkFile,
  tempDir: string,
  { signal, step, progress }: ImportReport,
): Promise<OwnedFd> {
  if ((host.inspectFd(fd).mode & WORLD_READABLE) !== 0) return { fd, [Symbol.dispose]: () => undefined };
  step(`copying ${name}, which not everybody may read`);
  const limit = new SpaceLimit(host, tempDir, Number.MAX_SAFE_INTEGER);
  limit.expect(size);
  const copy = host.temporaryFile(tempDir, 0o644);
  try {
    host.truncate(copy.fd, size);
    for (let at = 0; at < size; at += CHUNK) {
      if (signal.aborted) throw VmError.from(signal.reason);
      const bytes = host.readBytes(fd, at, CHUNK);
      if (bytes.some((byte) => byte !== 0)) host.writeBytes(copy.fd, at, bytes);
      progress(Math.min(size, at + CHUNK), size);
      await turn();
    }
    return copy;
  } catch (error) {
    copy[Symbol.dispose]();
    throw error;
  }
}
