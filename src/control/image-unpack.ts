import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { runConfined } from './confined-program.ts';
import type { ImportReport } from './import-report.ts';
import type { WorkFile } from './image-source.ts';
import { SpaceLimit } from './space-limit.ts';

interface Packing {
  readonly name: string;
  readonly magic: Buffer;
  /** Debian package and path of the program. */
  readonly package: string;
  readonly program: string;
  readonly args: readonly string[];
}

const packing = (name: string, magic: string, owner: string, args: readonly string[]): Packing => ({
  name,
  magic: Buffer.from(magic, 'latin1'),
  package: owner,
  program: `/usr/bin/${name}`,
  args,
});

/** Sources: RFC 1952, RFC 8878, the .xz file format, bzip2's manual. */
const PACKINGS: readonly Packing[] = [
  packing('gzip', '\x1f\x8b', 'gzip', ['-dc']),
  packing('xz', '\xfd7zXZ\0', 'xz-utils', ['-dc', '--memlimit-decompress=1GiB']),
  packing('zstd', '\x28\xb5\x2f\xfd', 'zstd', ['-dcq', '--memory=1024MB']),
  packing('bzip2', 'BZh', 'bzip2', ['-dc']),
];

/**
 * Unpacks a file that is compressed, told by its first bytes. Disks often come so; the program that unpacks sees the
 * file and nothing else of this machine.
 * @returns the file itself when it is not compressed.
 */
export async function unpackFile(
  host: Host,
  file: WorkFile,
  { tempDir, maxSize }: { readonly tempDir: string; readonly maxSize: number },
  files: DisposableStack,
  { signal, step }: ImportReport,
): Promise<WorkFile> {
  const head = host.readBytes(file.fd, 0, 8);
  const kind = PACKINGS.find(({ magic }) => head.subarray(0, magic.length).equals(magic));
  if (kind === undefined) return file;
  if (host.inspect(kind.program) === undefined) {
    throw new VmError(
      'FailedPrecondition',
      `${file.name} is ${kind.name}-compressed and there is no ${kind.program}; install the package ${kind.package}`,
    );
  }
  step(`unpacking (${kind.name})`);
  const limit = new SpaceLimit(host, tempDir, maxSize);
  const { fd } = files.use(host.temporaryFile(tempDir, 0o644));
  await runConfined(
    host,
    {
      file: kind.program,
      args: kind.args,
      fds: { stdin: file.fd, stdout: fd, more: [] },
      limit,
    },
    { what: `unpacking ${file.name} with ${kind.name}`, tempDir, signal },
  );
  return { fd, size: host.inspectFd(fd).size, name: file.name };
}
