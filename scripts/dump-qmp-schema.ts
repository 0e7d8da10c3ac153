/**
 * Writes what an installed QEMU says about its own options, for test/support/qemu-schema.ts:
 * `node scripts/dump-qmp-schema.ts > test/fixtures/qmp-schema-7.2.json.gz`. The same QEMU gives the same bytes.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';

/** What the plan uses, in both transports. */
const DRIVERS = [
  'VGA',
  'e1000e',
  'ich9-ahci',
  'ide-cd',
  'ide-hd',
  'isa-serial',
  // Every feature that -cpu takes is a property of it.
  'max-x86_64-cpu',
  'pcie-root-port',
  'i6300esb',
  'pvpanic-pci',
  'qemu-xhci',
  'rtl8139',
  'scsi-cd',
  'scsi-hd',
  'usb-storage',
  'usb-tablet',
  'vhost-user-fs-pci',
  'virtio-balloon-device',
  'virtio-balloon-pci',
  'virtio-blk-device',
  'virtio-blk-pci',
  'virtio-mem-pci',
  'virtio-mmio',
  'virtio-net-device',
  'virtio-net-pci',
  'virtio-rng-device',
  'virtio-rng-pci',
  'virtio-scsi-pci',
  'virtio-vga',
];
const MACHINES = ['microvm', 'pc-q35-7.2'];

interface Property {
  readonly name: string;
  readonly type: string;
}

export interface QemuSchema {
  /** As in QEMU's greeting. */
  readonly version: string;
  /** query-qmp-schema. */
  readonly schema: readonly SchemaEntity[];
  /** Key names by option, without the dash; from query-command-line-options. */
  readonly options: Readonly<Record<string, readonly string[]>>;
  /** Property types by driver; device_add itself is open in the schema. */
  readonly drivers: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Property types by machine; -machine is open too. */
  readonly machines: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/** One entry of query-qmp-schema; `docs/devel/qapi-code-gen` of QEMU tells which fields which meta-type has. */
export interface SchemaEntity {
  readonly name: string;
  readonly 'meta-type': string;
  readonly 'json-type'?: string;
  readonly 'element-type'?: string;
  readonly 'arg-type'?: string;
  readonly values?: readonly string[];
  readonly members?: readonly { readonly name?: string; readonly type: string; readonly default?: unknown }[];
  readonly tag?: string;
  readonly variants?: readonly { readonly case: string; readonly type: string }[];
}

interface Greeting {
  readonly QMP: { readonly version: { readonly qemu: { major: number; minor: number; micro: number } } };
}

type Execute = (command: string, args?: object) => Promise<unknown>;

/** Runs `use` with a QEMU of this machine type that speaks QMP on its stdio and stays paused. */
async function withQemu<T>(
  machine: string,
  use: (execute: Execute, greeting: Greeting) => Promise<T>,
): Promise<T> {
  const args = [
    '-machine',
    machine,
    '-accel',
    'tcg',
    '-nodefaults',
    '-display',
    'none',
    '-S',
    '-qmp',
    'stdio',
  ];
  const qemu = spawn('qemu-system-x86_64', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: qemu.stdout })[Symbol.asyncIterator]();
  const read = async (): Promise<Record<string, unknown>> => {
    const line = await lines.next();
    if (line.done === true) throw new Error(`qemu-system-x86_64 -machine ${machine} ended`);
    return JSON.parse(line.value) as Record<string, unknown>;
  };
  const execute: Execute = async (command, args = {}) => {
    qemu.stdin.write(JSON.stringify({ execute: command, arguments: args }));
    for (;;) {
      const message = await read();
      if ('error' in message) throw new Error(`${command}: ${JSON.stringify(message['error'])}`);
      if ('return' in message) return message['return'];
    }
  };
  try {
    const greeting = (await read()) as unknown as Greeting;
    await execute('qmp_capabilities');
    return await use(execute, greeting);
  } finally {
    // Nothing is lost with it, and SIGTERM would make it talk.
    qemu.kill('SIGKILL');
  }
}

function byName(properties: readonly Property[]): Record<string, string> {
  const sorted = properties.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  return Object.fromEntries(sorted.map(({ name, type }) => [name, type]));
}

export async function dumpQemuSchema(): Promise<QemuSchema> {
  const machines: Record<string, Record<string, string>> = {};
  for (const machine of MACHINES) {
    // Only a real board can be asked: QEMU aborts when qom-list-properties makes a second one.
    const properties = await withQemu(machine, (execute) => execute('qom-list', { path: '/machine' }));
    const settable = (properties as Property[]).filter(({ type }) => !type.startsWith('child<'));
    machines[machine] = byName(settable);
  }
  return await withQemu('none', async (execute, greeting) => {
    const { major, minor, micro } = greeting.QMP.version.qemu;
    const drivers: Record<string, Record<string, string>> = {};
    for (const driver of DRIVERS) {
      drivers[driver] = byName((await execute('device-list-properties', { typename: driver })) as Property[]);
    }
    const options = (await execute('query-command-line-options')) as {
      readonly option: string;
      readonly parameters: readonly { readonly name: string }[];
    }[];
    return {
      version: `${major}.${minor}.${micro}`,
      schema: (await execute('query-qmp-schema')) as SchemaEntity[],
      options: Object.fromEntries(
        options.map(({ option, parameters }) => [option, parameters.map(({ name }) => name).toSorted()]),
      ),
      drivers,
      machines,
    };
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.stdout.write(gzipSync(JSON.stringify(await dumpQemuSchema()), { level: 9 }));
}
