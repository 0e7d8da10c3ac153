import { type Command, type CommandContext, parseCommandLine, UsageError } from './command.ts';
import { packImage } from './image-pack-command.ts';
import { progressBar } from './progress-bar.ts';

const COMPRESSIONS = ['none', 'gzip', 'zstd'] as const;

export const imageCommand: Command = {
  name: 'image',
  usage:
    'pack DISK --name REF --output FILE [--kernel FILE [--initrd FILE] [--cmdline TEXT]] [--compress none|gzip|zstd]',
  summary: 'make a container image of a disk',
  details: `Packs a qcow2 or raw disk into an OCI image archive that containerd imports and this runtime boots. The same input
gives the same bytes.

  vmctl image pack debian.qcow2 --name example.com/debian:12 --output debian.tar
  ctr images import debian.tar
  ctr run --rm -t --runtime io.containerd.vm.v2 example.com/debian:12 my-vm`,
  options: [
    { flag: '--name REF', text: 'the image’s name, such as example.com/debian:12' },
    { flag: '--output FILE', text: 'the archive to write; it appears when it is complete' },
    {
      flag: '--kernel FILE',
      text: 'a kernel to boot instead of the disk’s boot loader (annotation vmshim.io/kernel)',
    },
    { flag: '--initrd FILE', text: 'its initial RAM disk' },
    { flag: '--cmdline TEXT', text: 'its command line' },
    { flag: '--compress KIND', text: 'none (default), gzip or zstd' },
  ],
  takesVm: false,
  async run(args, context) {
    const [verb, ...rest] = args;
    if (verb !== 'pack') throw new UsageError(`image takes the word "pack", not "${verb ?? ''}"`);
    return await pack(rest, context);
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
