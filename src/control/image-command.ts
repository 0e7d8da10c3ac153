import { type Command, type CommandContext, parseCommandLine, UsageError } from './command.ts';
import { runImageImport } from './image-import-command.ts';
import { runImageInspect } from './image-inspect-command.ts';
import { runImageList } from './image-list-command.ts';
import { packImage } from './image-pack-command.ts';
import { COMPRESSIONS } from './oci-image.ts';
import { progressBar } from './progress-bar.ts';

export const imageCommand: Command = {
  name: 'image',
  usage: 'import FILE|URL | pack DISK | inspect REF|FILE | list',
  summary: 'make a container image of a disk, and look into one',
  details: `image import FILE|URL [--name REF] [--checksum sha256:HEX] [...]
  Puts a disk into containerd as an image that pods and "ctr run" can use at once. Takes qcow2, raw, vmdk, vhdx, vhd and
  vdi, also packed with gzip, xz, zstd or bzip2, from a file or by http(s). A broken download goes on where it broke,
  also when the import is started again within a week.

    vmctl image import https://cloud.example/debian-12.qcow2 --name example.com/debian:12 --checksum sha256:…
    vmctl image import windows.vhdx --name example.com/windows:2022 --namespace default

image pack DISK --name REF --output FILE [--compress none|gzip|zstd]
  Packs a qcow2 or raw disk into an OCI image archive, for a registry or another node. The same input gives the same
  bytes.

    vmctl image pack debian.qcow2 --name example.com/debian:12 --output debian.tar
    ctr images import debian.tar

image inspect REF|FILE [--json]
  What a disk, or the disk in an image of containerd's, is, and whether a VM would boot from it. Exit status 1 if not.

image list [--json]
  The images in containerd that have a disk, with its format and size.

With --kernel FILE [--initrd FILE] [--cmdline TEXT], pack and import add a kernel to boot instead of the disk’s boot loader.`,
  options: [
    {
      flag: '--name REF',
      text: 'the image’s name, such as example.com/debian:12; import makes one of the file’s',
    },
    { flag: '--checksum SUM', text: 'import: sha256:HEX of the file as it is downloaded' },
    {
      flag: '--namespace NS',
      text: 'import, inspect, list: containerd’s namespace, k8s.io by default; ctr’s is "default"',
    },
    {
      flag: '--address SOCKET',
      text: 'import, inspect, list: containerd’s, /run/containerd/containerd.sock by default',
    },
    {
      flag: '--max-size SIZE',
      text: 'import: what a download and what it unpacks to may have, 256Gi by default',
    },
    {
      flag: '--temp-dir DIR',
      text: 'import: with room for the disk, /var/tmp by default; a download lies there too then, and is not kept',
    },
    { flag: '--no-pin', text: 'import: let kubelet remove the image when the disk fills' },
    { flag: '--output FILE', text: 'pack: the archive to write; it appears when it is complete' },
    { flag: '--kernel FILE', text: 'a kernel to boot instead of the disk’s boot loader' },
    { flag: '--initrd FILE', text: 'its initial RAM disk' },
    { flag: '--cmdline TEXT', text: 'its command line' },
    { flag: '--compress KIND', text: 'of the layer: none (default), gzip or zstd' },
    { flag: '--json', text: 'inspect, list: JSON instead of lines' },
  ],
  words: ['import', 'pack', 'inspect', 'list'],
  takesVm: false,
  async run(args, context) {
    const [verb, ...rest] = args;
    switch (verb) {
      case 'pack':
        return await pack(rest, context);
      case 'import':
        return await runImageImport(rest, context);
      case 'inspect':
        return await runImageInspect(rest, context);
      case 'list':
        return await runImageList(rest, context);
      case undefined:
      default:
        throw new UsageError(
          `image takes the word "import", "pack", "inspect" or "list", not "${verb ?? ''}"`,
        );
    }
  },
};

async function pack(args: readonly string[], { host, signal, print }: CommandContext): Promise<number> {
  const { values, positionals } = parseCommandLine(args, {
    name: { type: 'string' },
    output: { type: 'string', short: 'o' },
    kernel: { type: 'string' },
    initrd: { type: 'string' },
    cmdline: { type: 'string' },
    compress: { type: 'string', default: 'none' },
  });
  const [disk, ...more] = positionals;
  if (disk === undefined || more.length > 0) throw new UsageError('image pack takes exactly one DISK');
  if (values.name === undefined)
    throw new UsageError('image pack needs --name, such as --name example.com/debian:12');
  if (values.output === undefined)
    throw new UsageError('image pack needs --output, such as --output debian.tar');
  const compress = COMPRESSIONS.find((kind) => kind === values.compress);
  if (compress === undefined)
    throw new UsageError(`--compress "${values.compress}" is none of ${COMPRESSIONS.join(', ')}`);
  using bar = progressBar(process.stderr);
  const result = await packImage(
    host,
    {
      disk,
      name: values.name,
      output: values.output,
      kernel: values.kernel,
      initrd: values.initrd,
      cmdline: values.cmdline,
      compress,
    },
    { signal, onProgress: ({ doneBytes, totalBytes }) => bar.show(doneBytes, totalBytes) },
  );
  bar.done();
  print(
    `${result.output}: ${result.name}, ${result.format} disk of ${(result.virtualSize / 2 ** 30).toFixed(1)} GiB; import it with: ctr images import ${result.output}\n`,
  );
  return 0;
}
