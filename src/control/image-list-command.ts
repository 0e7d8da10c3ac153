import { formatBytes } from '../core/quantity.ts';
import { type CommandContext, parseCommandLine, UsageError } from './command.ts';
import { CONTAINERD_OPTIONS } from './image-import-command.ts';
import type { ListedImage } from './image-list.ts';
import { renderTable } from './table.ts';

/** `vmctl image list [...]` */
export async function runImageList(
  args: readonly string[],
  { signal, print }: CommandContext,
): Promise<number> {
  const { values, positionals } = parseCommandLine(args, {
    ...CONTAINERD_OPTIONS,
    json: { type: 'boolean', default: false },
  });
  if (positionals.length > 0)
    throw new UsageError('image list takes no names; "image inspect" looks into one image');
  const [{ ContainerdClient, DEFAULT_CONTAINERD_ADDRESS }, { listVmImages }] = await Promise.all([
    import('./containerd-client.ts'),
    import('./image-list.ts'),
  ]);
  const { address = DEFAULT_CONTAINERD_ADDRESS, namespace } = values;
  using client = new ContainerdClient({ address, namespace });
  const images = await listVmImages(client, { signal });
  print(values.json ? `${JSON.stringify(images, null, 2)}\n` : describe(images, namespace));
  return 0;
}

function describe(images: readonly ListedImage[], namespace: string): string {
  if (images.length === 0) return `no image in containerd’s namespace "${namespace}" has a disk\n`;
  const rows = images.map(({ name, format, virtualSize, layerBytes, pinned, manifest }) => [
    name,
    format ?? 'refused',
    virtualSize === undefined ? '?' : formatBytes(virtualSize),
    `${(layerBytes / 2 ** 20).toFixed(1)} MiB`,
    pinned ? 'yes' : 'no',
    manifest.replace(/^sha256:(.{12}).*$/, '$1'),
  ]);
  return renderTable(['IMAGE', 'FORMAT', 'SIZE', 'STORED', 'PINNED', 'MANIFEST'], rows);
}
