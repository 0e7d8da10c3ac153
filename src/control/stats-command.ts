import { type Command, parseCommandLine } from './command.ts';
import type { Figures } from './control-service.ts';
import { connectVm } from './connect-vm.ts';
import { renderTable } from './table.ts';

export const statsCommand: Command = {
  name: 'stats',
  usage: 'VM [--namespace NS] [--json]',
  summary: 'what a guest has used: its disks, its vCPUs, its RAM',
  details:
    'Counted since the VM was started, as its guest sees it. RUN is the time a vCPU was on a CPU of the node, WAIT the\ntime it was ready for one and had none: what the guest calls stolen. What the VM costs the node is in\n"crictl stats" and in the metrics of vm-node-agent.',
  options: [
    { flag: '--namespace NS', text: 'only VMs of this containerd namespace' },
    { flag: '--json', text: 'one JSON object instead of tables; times in nanoseconds' },
  ],
  takesVm: true,
  async run(args, context) {
    const { values, positionals } = parseCommandLine(args, {
      json: { type: 'boolean' },
      namespace: { type: 'string' },
    });
    await using client = await connectVm(context, positionals, values.namespace);
    const figures = readFigures(
      await client.figures(AbortSignal.any([context.signal, AbortSignal.timeout(ANSWER_MS)])),
    );
    context.print(values.json === true ? `${JSON.stringify(figures, null, 2)}\n` : describe(figures));
    return 0;
  },
};

/** QEMU answers at once unless its main thread is stuck in the node's storage. */
const ANSWER_MS = 5_000;

type Plain = ReturnType<typeof readFigures>;

/** A decoded message has what is 0 or empty on its prototype only, where JSON does not find it. */
function readFigures({ balloonBytes, memory, disks, vcpus }: Figures) {
  return {
    balloonBytes: balloonBytes ?? 0,
    memory: memory === undefined || memory === null ? undefined : readMemory(memory),
    disks: (disks ?? []).map((disk) => ({
      name: disk.name ?? '',
      reads: disk.reads ?? 0,
      readBytes: disk.readBytes ?? 0,
      readNs: disk.readNs ?? 0,
      writes: disk.writes ?? 0,
      writtenBytes: disk.writtenBytes ?? 0,
      writeNs: disk.writeNs ?? 0,
      flushes: disk.flushes ?? 0,
      flushNs: disk.flushNs ?? 0,
      failed: disk.failed ?? 0,
    })),
    vcpus: (vcpus ?? []).map(({ index, runNs, waitNs }) => ({
      index: index ?? 0,
      runNs: runNs ?? 0,
      waitNs: waitNs ?? 0,
    })),
  };
}

/** Bytes and counters; undefined for what the guest's driver does not tell. */
function readMemory(memory: NonNullable<Figures['memory']>) {
  const keys = ['total', 'available', 'free', 'caches', 'swappedIn', 'swappedOut'] as const;
  const counters = ['majorFaults', 'minorFaults'] as const;
  return Object.fromEntries([...keys, ...counters].map((key) => [key, memory[key] ?? undefined]));
}

/** MiB of what the guest says, beside the counter of faults that had to wait for a disk. */
function memoryTable(memory: NonNullable<Plain['memory']>): string {
  const sizes = ['total', 'available', 'free', 'caches', 'swappedIn', 'swappedOut'].map((key) => {
    const bytes = memory[key];
    return bytes === undefined ? '-' : mebibytes(bytes);
  });
  return renderTable(
    ['GUEST', 'AVAILABLE', 'FREE', 'CACHES', 'SWAPPED IN', 'OUT', 'MAJOR FAULTS'],
    [[...sizes, String(memory['majorFaults'] ?? '-')]],
  );
}

function describe({ balloonBytes, memory, disks, vcpus }: Plain): string {
  const seconds = (ns: number): string => `${(ns / 1e9).toFixed(1)} s`;
  const mean = (ns: number, count: number): string =>
    count === 0 ? '-' : `${(ns / count / 1e6).toFixed(2)} ms`;
  const parts = [
    renderTable(
      ['VCPU', 'RUN', 'WAIT'],
      vcpus.map(({ index, runNs, waitNs }) => [String(index), seconds(runNs), seconds(waitNs)]),
    ),
    renderTable(
      ['DISK', 'READS', 'READ', 'EACH', 'WRITES', 'WRITTEN', 'EACH', 'FLUSHES', 'EACH', 'FAILED'],
      disks.map((disk) => [
        disk.name,
        String(disk.reads),
        mebibytes(disk.readBytes),
        mean(disk.readNs, disk.reads),
        String(disk.writes),
        mebibytes(disk.writtenBytes),
        mean(disk.writeNs, disk.writes),
        String(disk.flushes),
        mean(disk.flushNs, disk.flushes),
        String(disk.failed),
      ]),
    ),
  ];
  if (memory !== undefined) parts.unshift(memoryTable(memory));
  if (balloonBytes > 0) parts.unshift(`RAM that the balloon leaves the guest: ${mebibytes(balloonBytes)}\n`);
  return parts.join('\n');
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
