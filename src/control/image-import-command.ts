import { basename } from 'node:path';
import { parseQuantity } from '../core/quantity.ts';
import { loadNative } from '../host/native.ts';
import { type CommandContext, parseCommandLine, UsageError } from './command.ts';
import { parseImageName } from './image-name.ts';
import { parseImageUrl } from './image-url.ts';
import { COMPRESSIONS } from './oci-image.ts';
import { stepReport } from './step-report.ts';

/** Made for large files that outlive no boot: hier(7). */
const TEMP_DIR = '/var/tmp';
const MAX_SIZE = '256Gi';

/** Options that say which containerd is meant, with Kubernetes' namespace unless told otherwise. */
export const CONTAINERD_OPTIONS = {
  address: { type: 'string' },
  namespace: { type: 'string', default: 'k8s.io' },
} as const;

/** `vmctl image import SOURCE [...]` */
export async function runImageImport(
  args: readonly string[],
  { host, config, signal, print }: CommandContext,
): Promise<number> {
  const { values, positionals } = parseCommandLine(args, {
    ...CONTAINERD_OPTIONS,
    name: { type: 'string' },
    checksum: { type: 'string' },
    kernel: { type: 'string' },
    initrd: { type: 'string' },
    cmdline: { type: 'string' },
    compress: { type: 'string', default: 'none' },
    'temp-dir': { type: 'string' },
    'max-size': { type: 'string', default: MAX_SIZE },
    'no-pin': { type: 'boolean', default: false },
  });
  const [source, ...more] = positionals;
  if (source === undefined || more.length > 0)
    throw new UsageError('image import takes exactly one file or URL');
  const compress = COMPRESSIONS.find((kind) => kind === values.compress);
  if (compress === undefined)
    throw new UsageError(`--compress "${values.compress}" is none of ${COMPRESSIONS.join(', ')}`);
  const maxSize = parseQuantity(values['max-size']);
  if (maxSize === undefined || maxSize === 0)
    throw new UsageError(`--max-size "${values['max-size']}" is no size; give one such as 64Gi`);
  const sha256 = parseChecksum(values.checksum);
  const name = parseImageName(values.name ?? nameOfSource(source));

  // grpc-js is as large as all the rest of vmctl.
  const [{ ContainerdClient, DEFAULT_CONTAINERD_ADDRESS }, { importImage }] = await Promise.all([
    import('./containerd-client.ts'),
    import('./image-import.ts'),
  ]);
  using client = new ContainerdClient({
    address: values.address ?? DEFAULT_CONTAINERD_ADDRESS,
    namespace: values.namespace,
  });
  using report = stepReport(process.stderr);
  const { kernel, initrd, cmdline } = values;
  const result = await importImage(
    host,
    client,
    {
      ...{ source, name, sha256, kernel, initrd, cmdline, compress, maxSize },
      tempDir: values['temp-dir'] ?? TEMP_DIR,
      // Who names a directory wants everything there, in files without names.
      downloads:
        values['temp-dir'] === undefined && parseImageUrl(source) !== undefined
          ? { native: loadNative(), directory: `${config().dataDir}/downloads` }
          : undefined,
      pinned: !values['no-pin'],
    },
    { signal, ...report },
  );
  const gib = (bytes: number): string => (bytes / 2 ** 30).toFixed(1);
  const was = result.from === 'qcow2' ? '' : `, converted from ${result.from}`;
  print(
    `${result.name}: qcow2 disk of ${gib(result.virtualSize)} GiB in ${gib(result.diskBytes)} GiB${was}; namespace ${values.namespace}, manifest ${result.manifest}\n`,
  );
  return 0;
}

function parseChecksum(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const digits = /^(?:sha256:)?([0-9a-f]{64})$/i.exec(text)?.[1];
  if (digits === undefined) {
    throw new UsageError(
      `--checksum "${text}" is no SHA-256; give sha256: and 64 hex digits, as sha256sum prints them`,
    );
  }
  return digits.toLowerCase();
}

/** `debian-12-generic-amd64` for `https://…/Debian-12-generic-amd64.qcow2.xz`. */
export function nameOfSource(source: string): string {
  const file = basename(parseImageUrl(source)?.pathname ?? source).toLowerCase();
  const stem = file.replace(/(\.(qcow2|raw|img|vmdk|vhdx?|vdi|gz|xz|zst|bz2|disk))+$/, '');
  const name = stem.replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-|-$/g, '');
  if (name === '') throw new UsageError(`"${file}" makes no image name; give one with --name`);
  return name;
}
