import { openFlags } from '../host/open-flags.ts';
import type { Host } from '../host/host.ts';
import { type Command, parseCommandLine, UsageError } from './command.ts';
import { connectVm } from './connect-vm.ts';

export const screenshotCommand: Command = {
  name: 'screenshot',
  usage: 'VM FILE [--namespace NS]',
  summary: 'what is on a VM’s screen, as PNG',
  details: `Needs a VM with a screen (annotation vmshim.io/video). An existing FILE is overwritten.

  vmctl screenshot web-1 web-1.png`,
  options: [{ flag: '--namespace NS', text: 'only VMs of this containerd namespace' }],
  takesVm: true,
  async run(args, context) {
    const { values, positionals } = parseCommandLine(args, { namespace: { type: 'string' } });
    const [vm, file, ...more] = positionals;
    if (vm === undefined || file === undefined || more.length > 0)
      throw new UsageError('give one VM and one file for its picture');
    await using client = await connectVm(context, [vm], values.namespace);
    write(context.host, file, await client.screenshot());
    return 0;
  },
};

/** Opened after there is something to write. A screen may show secrets, so the file is the user's own. */
function write(host: Host, path: string, bytes: Uint8Array): void {
  const { O_CREAT, O_TRUNC, O_WRONLY } = openFlags;
  using file = host.open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600);
  host.writeBytes(file.fd, 0, bytes);
}
