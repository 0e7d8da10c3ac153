import { VmError } from '../core/errors.ts';
import { type Command, type CommandContext, parseCommandLine, UsageError } from './command.ts';
import type { ControlClient } from './control-client.ts';
import { connectVm } from './connect-vm.ts';

const NAMESPACE = { flag: '--namespace NS', text: 'only VMs of this containerd namespace' };
const GRACE = {
  flag: '--grace SECONDS',
  text: 'how long the guest may take to power off before it is ended by force; 60 by default',
};
const COMMON = [
  NAMESPACE,
  {
    flag: '--id ID',
    text: 'name of the request: asked again by the same id, it is answered and not done twice',
  },
  { flag: '--no-wait', text: 'return when the request is taken; "vmctl status" shows what becomes of it' },
];

interface PowerVerb extends Pick<Command, 'name' | 'summary' | 'details'> {
  readonly grace: boolean;
  readonly force: boolean;
}

const VERBS: readonly PowerVerb[] = [
  {
    name: 'stop',
    summary: 'switch a VM off; its container stays running',
    details: `Presses the guest's power button, and ends it by force when the grace is over. QEMU ends and its memory is free; disks, addresses
and the container stay, and containerd and kubelet go on seeing a running container. "vmctl start" boots the VM again.`,
    grace: true,
    force: true,
  },
  {
    name: 'start',
    summary: 'boot a VM that is off',
    details: 'Boots from the same disks with the same addresses.',
    grace: false,
    force: false,
  },
  {
    name: 'reset',
    summary: 'the reset button: boot again at once, without asking the guest',
    details: 'What the guest has not written to its disks is lost; "vmctl reboot" asks it first.',
    grace: false,
    force: false,
  },
  {
    name: 'reboot',
    summary: 'shut the guest down and boot it again',
    details: "Presses the guest's power button, ends it by force when the grace is over, and boots it again.",
    grace: true,
    force: false,
  },
  {
    name: 'pause',
    summary: 'stop the vCPUs; the guest stands still',
    details:
      'The guest keeps its memory and notices nothing but a jump of its clock. "vmctl resume" lets it go on.',
    grace: false,
    force: false,
  },
  {
    name: 'resume',
    summary: 'let a VM go on that is paused or whose disk has failed',
    details: `A VM whose disk is full or fails stands still and is tried again by itself, up to 30 seconds apart; this tries at once.
If the disk still does not work the VM stands still again, as "vmctl status" shows.`,
    grace: false,
    force: false,
  },
  {
    name: 'nmi',
    summary: 'send the guest a non-maskable interrupt',
    details:
      'What it does is the guest\'s affair: Linux writes it to its log, or panics with "kernel.unknown_nmi_panic=1"; Windows writes a crash dump.',
    grace: false,
    force: false,
  },
];

export const powerCommands: readonly Command[] = VERBS.map((verb) => ({
  name: verb.name,
  usage: `VM [--namespace NS] [--id ID]${verb.grace ? ' [--grace SECONDS]' : ''}${verb.force ? ' [--force]' : ''} [--no-wait]`,
  summary: verb.summary,
  details: verb.details,
  options: [
    ...(verb.grace ? [GRACE] : []),
    ...(verb.force
      ? [{ flag: '--force', text: 'do not ask the guest; also ends the wait of a stop or reboot' }]
      : []),
    ...COMMON,
  ],
  takesVm: true,
  run: (args, context) => ask(verb, args, context),
}));

async function ask(verb: PowerVerb, args: readonly string[], context: CommandContext): Promise<number> {
  const { values, positionals } = parseCommandLine(args, {
    namespace: { type: 'string' },
    id: { type: 'string' },
    'no-wait': { type: 'boolean' },
    grace: { type: 'string' },
    force: { type: 'boolean' },
  });
  if (values.grace !== undefined && !verb.grace) throw new UsageError(`${verb.name} takes no --grace`);
  if (values.force === true && !verb.force) throw new UsageError(`${verb.name} takes no --force`);
  await using client = await connectVm(context, positionals, values.namespace);
  const request = {
    id: values.id ?? '',
    action: verb.name,
    graceSeconds: parseGrace(values.grace),
    wait: values['no-wait'] !== true,
    force: values.force === true,
  };
  const status = await power(client, request, context.signal);
  if (status.phase === 'failed') throw new VmError('FailedPrecondition', status.message ?? '');
  if (values['no-wait'] === true) context.print(`${status.id ?? ''} ${status.phase ?? ''}\n`);
  else if (status.message !== undefined && status.message !== '') context.print(`${status.message ?? ''}\n`);
  return 0;
}

type Ask = Parameters<ControlClient['power']>[0];

async function power(
  client: ControlClient,
  request: Ask,
  signal: AbortSignal,
): ReturnType<ControlClient['power']> {
  try {
    return await client.power(request, signal);
  } catch (error) {
    if (!VmError.is(error, 'Unimplemented')) throw error;
    // A shim that was started before an upgrade knew this one.
    if (request.action === 'resume') {
      await client.resume(signal);
      return {};
    }
    throw new VmError(
      'Unimplemented',
      `the VM's shim is of an earlier version that cannot ${request.action} it; restart the container to have the new one`,
      { cause: error },
    );
  }
}

function parseGrace(text: string | undefined): number {
  if (text === undefined) return 0;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new UsageError(
    `--grace "${text}" is not a number of seconds from 1 on; --force does not ask the guest`,
  );
}
