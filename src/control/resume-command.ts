import { type Command, parseCommandLine } from './command.ts';
import { connectVm } from './status-command.ts';

export const resumeCommand: Command = {
  name: 'resume',
  usage: 'VM [--namespace NS]',
  summary: 'let a VM go on that is paused or whose disk has failed',
  details: `A VM whose disk is full or fails stands still and is tried again by itself, up to 30 seconds apart; this tries at once.
If the disk still does not work the VM stands still again, as "vmctl status" shows.`,
  options: [{ flag: '--namespace NS', text: 'only VMs of this containerd namespace' }],
  takesVm: true,
  async run(args, context) {
    const { values, positionals } = parseCommandLine(args, { namespace: { type: 'string' } });
    await using client = await connectVm(context, positionals, values.namespace);
    await client.resume(context.signal);
    return 0;
  },
};
