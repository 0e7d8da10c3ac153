import type { Host } from '../host/host.ts';
import { isAlive } from '../host/process-identity.ts';
import type { VmRecord } from '../vm/record.ts';
import { type Command, parseCommandLine, UsageError } from './command.ts';
import { ControlClient } from './control-client.ts';
import type { VmStatus } from './control-service.ts';
import { renderTable } from './table.ts';
import { readVmRecords } from '../vm/record-directory.ts';

/** A shim that does not answer within this time is shown as what the kernel knows of its VM. */
const ANSWER_MS = 2_000;

export const listCommand: Command = {
  name: 'list',
  usage: '[--json]',
  summary: 'the VMs of this node and what they are doing',
  details:
    'Lists every VM that containerd runs on this node. STATE is what its shim says; "orphan" means that the VM\nruns and its shim does not answer.',
  options: [{ flag: '--json', text: 'one JSON array instead of a table' }],
  takesVm: false,
  async run(args, { host, config, signal, print }) {
    const { values, positionals } = parseCommandLine(args, { json: { type: 'boolean' } });
    if (positionals.length > 0) throw new UsageError('list takes no VM; "vmctl status VM" shows one');
    const records = readVmRecords(host, config().stateDir);
    const rows = await Promise.all(records.map((record) => describeVm(host, record, signal)));
    if (values.json === true) print(`${JSON.stringify(rows, null, 2)}\n`);
    else
      print(
        renderTable(
          ['NAMESPACE', 'ID', 'NAME', 'STATE', 'CPUS', 'MEMORY', 'ACCEL', 'PID'],
          rows.map((row) => [
            row.namespace,
            row.id,
            row.name,
            row.state,
            row.vcpus === undefined ? '-' : String(row.vcpus),
            row.memoryBytes === undefined ? '-' : `${Math.round(row.memoryBytes / 2 ** 20)} MiB`,
            row.accel ?? '-',
            row.pid === 0 ? '-' : String(row.pid),
          ]),
        ),
      );
    return 0;
  },
};

interface Row {
  readonly namespace: string;
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly pid: number;
  /** Directory of the VM's sockets and record. */
  readonly runDir: string;
  readonly vcpus?: number;
  readonly memoryBytes?: number;
  readonly accel?: string;
}

async function describeVm(host: Host, record: VmRecord, signal: AbortSignal): Promise<Row> {
  const { namespace, id, name, qemu, shim, runDir } = record;
  try {
    const status = await askStatus(record, AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]));
    return {
      namespace,
      id,
      name,
      state: status.state ?? '',
      pid: status.qemuPid ?? 0,
      runDir,
      vcpus: status.vcpus ?? 0,
      memoryBytes: status.memoryBytes ?? 0,
      accel: status.accel ?? '',
    };
  } catch {
    const alive = qemu !== undefined && isAlive(host, { ...qemu, bootId: record.bootId });
    const { progress } = record;
    const creating =
      progress !== undefined && shim !== undefined && isAlive(host, { ...shim, bootId: record.bootId });
    const state = alive ? 'orphan' : creating ? progress : 'dead';
    return { namespace, id, name, state, pid: alive ? qemu.pid : 0, runDir };
  }
}

async function askStatus(record: VmRecord, signal: AbortSignal): Promise<VmStatus> {
  await using client = await ControlClient.connect(`${record.runDir}/control.sock`, signal);
  return await client.status(signal);
}
