import { VmError } from '../core/errors.ts';
import { formatBytes } from '../core/quantity.ts';
import { type Command, parseCommandLine } from './command.ts';
import { connectVm } from './connect-vm.ts';
import type { ControlClient } from './control-client.ts';
import type { VmStatus } from './control-service.ts';
import { describeNic, type Nic } from './nic-lines.ts';

export const statusCommand: Command = {
  name: 'status',
  usage: 'VM [--namespace NS] [--json]',
  summary: 'everything about one VM, and why it ended',
  details: `VM is a container id, the beginning of one, or the VM's name.

  vmctl status web-1
  vmctl status web-1 --json | jq .timeline`,
  options: [
    { flag: '--namespace NS', text: 'only VMs of this containerd namespace' },
    { flag: '--json', text: 'one JSON object instead of lines' },
  ],
  takesVm: true,
  async run(args, context) {
    const { values, positionals } = parseCommandLine(args, {
      json: { type: 'boolean' },
      namespace: { type: 'string' },
    });
    await using client = await connectVm(context, positionals, values.namespace);
    const status = await askStatus(client, context.signal);
    const nics = await askNics(client, context.signal);
    context.print(
      values.json === true
        ? `${JSON.stringify({ ...allFields(status), nics: nics.map(allFields) }, null, 2)}\n`
        : describe(status, nics),
    );
    return 0;
  },
};

/** A shim answers at once unless something is very wrong with it. */
const ANSWER_MS = 5_000;

async function askStatus(client: ControlClient, signal: AbortSignal): Promise<VmStatus> {
  try {
    return await client.status(AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]));
  } catch (error) {
    if (!VmError.is(error, 'DeadlineExceeded')) throw error;
    throw new VmError('Unavailable', `the VM's shim has not answered for ${ANSWER_MS / 1000} s`, {
      cause: error,
    });
  }
}

async function askNics(client: ControlClient, signal: AbortSignal): Promise<readonly Nic[]> {
  try {
    return (await client.network(AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]))).nics ?? [];
  } catch (error) {
    // A shim that was started before an upgrade.
    if (VmError.is(error, 'Unimplemented')) return [];
    throw error;
  }
}

/** A decoded message has what is 0 or empty on its prototype only, and a script wants to find an exit status of 0. */
function allFields(status: object): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const name in status) {
    const value: unknown = status[name as keyof typeof status];
    if (typeof value !== 'function' && !name.startsWith('$')) fields[name] = value;
  }
  return fields;
}

function describe(status: VmStatus, nics: readonly Nic[]): string {
  const time = (ms: number | null | undefined): string =>
    ms === null || ms === undefined || ms === 0 ? '' : new Date(ms).toISOString();
  const pid = (value: number | null | undefined): string =>
    value === null || value === undefined || value === 0 ? '' : String(value);
  const ended =
    status.exitReason === '' ? '' : `${status.exitReason ?? ''} (exit status ${status.exitStatus ?? 0})`;
  const lines: [string, string][] = [
    ['name', status.name ?? ''],
    ['id', status.id ?? ''],
    ['namespace', status.namespace ?? ''],
    ['state', status.state ?? ''],
    ['power', describePower(status)],
    ['ended', ended],
    ['created', time(status.createdAtMs)],
    ['started', time(status.startedAtMs)],
    ['exited', time(status.exitedAtMs)],
    ['vCPUs', String(status.vcpus ?? 0)],
    ['memory', describeMemory(status)],
    [
      'machine',
      `${status.machine ?? ''}, firmware ${status.firmware ?? ''}, QEMU ${status.qemuVersion ?? ''}`,
    ],
    ['accelerator', `${status.accel ?? ''}: ${status.accelReason ?? ''}`],
    ['network', status.network ?? ''],
    ['NUMA', status.numa ?? ''],
    ...(status.traffic ?? []).map((nic): [string, string] => ['traffic', describeTraffic(nic)]),
    ...nics.flatMap(describeNic),
    ['uuid', status.uuid ?? ''],
    ['root disk', status.rootDisk ?? ''],
    ...(status.disks ?? []).map((disk): [string, string] => ['disk', describeDisk(disk)]),
    ...(status.shared ?? []).map((directory): [string, string] => ['shared', describeShared(directory)]),
    ['console log', status.consoleLog ?? ''],
    ['VNC', status.vncSocket ?? ''],
    ['bundle', status.bundle ?? ''],
    ['QEMU pid', pid(status.qemuPid)],
    ['shim', `pid ${status.shimPid ?? 0}, version ${status.shimVersion ?? ''}`],
    ...(status.warnings ?? []).map((warning): [string, string] => ['warning', warning]),
  ];
  const shown = lines.filter(([, value]) => value !== '');
  const width = Math.max(...shown.map(([label]) => label.length));
  return shown.map(([label, value]) => `${label.padEnd(width)}  ${value}\n`).join('') + timeline(status);
}

/** A shim of an earlier version tells of no maximum. */
function describeMemory({ memoryBytes, maxMemoryBytes }: VmStatus): string {
  const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
  const [has, most] = [memoryBytes ?? 0, maxMemoryBytes ?? 0];
  return most > has ? `${mib(has)} of at most ${mib(most)}` : mib(has);
}

/** A shim of an earlier version tells of none. */
function describePower({ powerState, powerReason, power }: VmStatus): string {
  const state = [powerState, powerReason].filter((text) => text !== undefined && text !== '').join(': ');
  if (state === '' || power === null || power === undefined) return state;
  const { action = '', phase = '', message = '' } = power;
  return `${state}; last request: ${action} ${phase}${message === '' ? '' : `, ${message}`}`;
}

type NicTraffic = NonNullable<VmStatus['traffic']>[number];

function describeTraffic(nic: NicTraffic): string {
  const way = (bytes = 0, packets = 0, dropped = 0, errors = 0): string =>
    `${bytes} bytes in ${packets} packets (${dropped} dropped, ${errors} errors)`;
  const received = way(nic.rxBytes ?? 0, nic.rxPackets ?? 0, nic.rxDropped ?? 0, nic.rxErrors ?? 0);
  const sent = way(nic.txBytes ?? 0, nic.txPackets ?? 0, nic.txDropped ?? 0, nic.txErrors ?? 0);
  return `${nic.name ?? ''} received ${received}, sent ${sent}`;
}

type Disk = NonNullable<VmStatus['disks']>[number];

function describeDisk({ name, serial, source, path, sizeBytes, device, readOnly, cache, aio }: Disk): string {
  const what = `${device ?? ''}${readOnly === true ? ', read-only' : ''}, ${formatBytes(sizeBytes ?? 0)}`;
  return `${name ?? ''}: ${what}, serial ${serial ?? ''}, ${source ?? ''} (${path ?? ''}), cache ${cache ?? ''}, aio ${aio ?? ''}`;
}

type Shared = NonNullable<VmStatus['shared']>[number];

function describeShared({ tag, volume, path, readOnly }: Shared): string {
  return `${tag ?? ''}: virtiofs${readOnly === true ? ', read-only' : ''}, the volume ${volume ?? ''} (${path ?? ''})`;
}

function timeline({ timeline: marks = [] }: VmStatus): string {
  const first = marks?.[0]?.atMs;
  if (marks === null || first === null || first === undefined) return '';
  return `timeline\n${marks.map(({ name, atMs }) => `${((atMs ?? 0) - first).toFixed(1).padStart(10)} ms  ${name ?? ''}\n`).join('')}`;
}
