import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { readImageProbe } from '../storage/disk-image.ts';
import { type CommandContext, parseCommandLine, UsageError } from './command.ts';
import { openSource } from './image-contents.ts';
import { probeDisk } from './image-convert.ts';
import { type DiskReport, findRootfsDisk, inspectDisk } from './image-inspect.ts';
import { CONTAINERD_OPTIONS } from './image-import-command.ts';
import { parseImageName } from './image-name.ts';
import type { Rootfs } from './layer-entries.ts';

/** What `--json` prints. Sizes are bytes; what is not known is left out. */
interface Inspection extends Partial<DiskReport> {
  readonly source: string;
  readonly manifest?: string;
  /** Bytes that containerd stores. */
  readonly layerBytes?: number;
  /** Inside the image. */
  readonly disk?: string;
  readonly kernel?: string;
  readonly initrd?: string;
  readonly cmdline?: string;
  readonly accepted: boolean;
  /** What `image import` would do with the file. */
  readonly import?: string;
}

/** `vmctl image inspect REF|FILE [...]` */
export async function runImageInspect(args: readonly string[], context: CommandContext): Promise<number> {
  const { values, positionals } = parseCommandLine(args, {
    ...CONTAINERD_OPTIONS,
    json: { type: 'boolean', default: false },
  });
  const [source, ...more] = positionals;
  if (source === undefined || more.length > 0)
    throw new UsageError('image inspect takes exactly one image name or file');
  const { host, print } = context;
  // A path is told by how it begins or by being there.
  const isFile = /^\.{0,2}\//.test(source) || host.inspect(source) !== undefined;
  const found = isFile ? inspectFile(host, source) : await inspectImage(source, values, context);
  print(values.json ? `${JSON.stringify(found, null, 2)}\n` : describe(found));
  return found.accepted ? 0 : 1;
}

function inspectFile(host: Host, path: string): Inspection {
  using file = openSource(host, path, 'image');
  const probe = readImageProbe(host, file.fd, `"${path}"`);
  const report = inspectDisk(probe, false);
  return {
    source: path,
    ...report,
    accepted: report.refusal === undefined,
    import: importOf(() => probeDisk(probe, true)),
  };
}

function importOf(probe: () => string): string {
  try {
    const format = probe();
    return format === 'qcow2' ? 'as it is' : `converted from ${format} to qcow2`;
  } catch (error) {
    const { message } = VmError.from(error);
    return /-compressed/.test(message) ? 'unpacked first' : 'refused';
  }
}

async function inspectImage(
  reference: string,
  { address, namespace }: { readonly address?: string; readonly namespace: string },
  { signal }: CommandContext,
): Promise<Inspection> {
  const { full: name } = parseImageName(reference);
  const [
    { ContainerdClient, DEFAULT_CONTAINERD_ADDRESS },
    { readImageManifest },
    { readBlob },
    { applyLayer },
  ] = await Promise.all([
    import('./containerd-client.ts'),
    import('./image-manifest.ts'),
    import('./containerd-content.ts'),
    import('./layer-entries.ts'),
  ]);
  using client = new ContainerdClient({ address: address ?? DEFAULT_CONTAINERD_ADDRESS, namespace });
  const { digest, layers, labels } = await readImageManifest(client, name, { signal });
  const rootfs: Rootfs = new Map();
  for (const layer of layers) {
    const blob = readBlob(client, layer.digest, { offset: 0, length: 0 }, { signal });
    await applyLayer(rootfs, blob, layer.mediaType, signal);
  }
  const label = (key: 'kernel' | 'initrd' | 'cmdline'): Partial<Inspection> => {
    const value = labels[`io.vmshim.${key}`];
    return value === undefined ? {} : { [key]: value };
  };
  const image = {
    source: `${name} in namespace ${namespace}`,
    manifest: digest,
    layerBytes: layers.reduce((sum, { size }) => sum + size, 0),
    ...{ ...label('kernel'), ...label('initrd'), ...label('cmdline') },
  };
  const disk = findRootfsDisk(rootfs);
  if ('refusal' in disk) return { ...image, ...disk, accepted: false };
  const { head, tail, size } = disk.entry;
  const probe = { name: JSON.stringify(disk.path), head, tail, fileBytes: size };
  const report = inspectDisk(probe, labels['io.vmshim.kernel'] !== undefined);
  return { ...image, disk: disk.path, ...report, accepted: report.refusal === undefined };
}

function describe(found: Inspection): string {
  const size = (bytes: number | undefined): string =>
    bytes === undefined ? '' : `${(bytes / 2 ** 20).toFixed(1)} MiB (${bytes} bytes)`;
  const lines: [string, string | undefined][] = [
    ['image', found.source],
    ['manifest', found.manifest],
    ['layers', size(found.layerBytes)],
    ['disk', found.disk],
    ['format', found.format],
    ['virtual size', size(found.virtualSize)],
    ['file size', size(found.fileBytes)],
    ['backing file', found.backingFile],
    ['kernel', found.kernel],
    ['initrd', found.initrd],
    ['command line', found.cmdline],
    ['import', found.import],
    ['boots', found.accepted ? 'yes' : `no: ${found.refusal ?? ''}`],
  ];
  const shown = lines.filter((line): line is [string, string] => line[1] !== undefined && line[1] !== '');
  const width = Math.max(...shown.map(([label]) => label.length));
  return shown.map(([label, value]) => `${label.padEnd(width)}  ${value}\n`).join('');
}
