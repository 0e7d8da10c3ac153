import type { QemuSchema } from '../../../scripts/dump-qmp-schema.ts';
import { SchemaChecker } from './qemu-schema.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Options that take one word which QEMU does not take apart, and switches. */
const TEXT = ['-uuid', '-kernel', '-initrd', '-append', '-display', '-watchdog-action'];
const SWITCHES = ['-nodefaults', '-no-user-config', '-no-shutdown', '-no-reboot', '-S'];

/** Options whose keys query-command-line-options tells, by its name for them. */
const KEYED: Readonly<Record<string, string>> = {
  '-name': 'name',
  '-smp': 'smp-opts',
  '-m': 'memory',
  '-rtc': 'rtc',
  '-boot': 'boot-opts',
  '-global': 'global',
  '-mon': 'mon',
  '-add-fd': 'add-fd',
  '-sandbox': 'sandbox',
  '-chardev': 'chardev',
};

/** -object, -blockdev and -netdev take the arguments of these commands. */
const COMMANDS: Readonly<Record<string, string>> = {
  '-object': 'object-add',
  '-blockdev': 'blockdev-add',
  '-netdev': 'netdev_add',
};

export interface ParsedOption {
  readonly flag: string;
  readonly value: string | undefined;
}

export function parseArgs(args: readonly string[]): ParsedOption[] {
  const words = args[Symbol.iterator]();
  const options: ParsedOption[] = [];
  for (const flag of words) {
    if (SWITCHES.includes(flag)) options.push({ flag, value: undefined });
    else options.push({ flag, value: words.next().value });
  }
  return options;
}

/** QEMU's own reading of `head,key=value,…` with doubled commas (`docs/system`, "-name", `util/keyval.c`). */
export function parseKeyed(text: string): { head: string | undefined; keys: Record<string, string> } {
  const parts = splitSingleCommas(text);
  const head = parts[0]?.includes('=') === true ? undefined : parts.shift();
  const keys = parts.map((part): [string, string] => {
    const at = part.indexOf('=');
    return [part.slice(0, at), part.slice(at + 1)];
  });
  return { head, keys: Object.fromEntries(keys) };
}

/** Every finding is one line; none means that QEMU 7.2 knows every option, key and type. */
export function checkArgs(schema: QemuSchema, args: readonly string[]): string[] {
  const checker = new SchemaChecker(schema);
  return parseArgs(args).flatMap(({ flag, value }) => checkOption(schema, checker, flag, value));
}

function checkOption(schema: QemuSchema, checker: SchemaChecker, flag: string, value?: string): string[] {
  if (SWITCHES.includes(flag)) return [];
  if (value === undefined) return [`${flag}: no value`];
  if (TEXT.includes(flag)) return [];
  const command = COMMANDS[flag];
  if (command !== undefined) return checker.checkCommand(command, JSON.parse(value));
  if (flag === '-device') return checkDevice(schema, JSON.parse(value) as Fields);
  const { head, keys } = parseKeyed(value);
  if (flag === '-machine') {
    const machine = schema.machines[head ?? ''];
    if (machine === undefined) return [`-machine: ${head ?? ''} is not in the dump`];
    // A board without flash images drops these two before anybody can list them.
    return unknownKeys(flag, keys, [...Object.keys(machine), 'pflash0', 'pflash1']);
  }
  if (flag === '-cpu') return unknownKeys(flag, keys, Object.keys(schema.drivers['max-x86_64-cpu'] ?? {}));
  // Properties of the accelerator's class, of which no command tells: tcg-all.c.
  if (flag === '-accel') return unknownKeys(flag, keys, ['tb-size']);
  // query-command-line-options knows of -vnc nothing; its keys are QemuVncOptions of ui/vnc.c.
  if (flag === '-vnc') return unknownKeys(flag, keys, ['share']);
  if (flag === '-numa') return checker.checkCommand('set-numa-node', numaOptions(head ?? '', keys));
  const group = KEYED[flag];
  if (group === undefined) return [`${flag}: not an option of the plan`];
  return [
    // `id` belongs to every option group and is listed with none.
    ...unknownKeys(flag, keys, ['id', ...(schema.options[group] ?? [])]),
    ...(flag === '-chardev' ? checkChardev(checker, head ?? '', keys) : []),
  ];
}

/** -numa is read by the visitor of set-numa-node's arguments: numbers are text there, and `cpus` is a range. */
function numaOptions(type: string, { cpus, memdev, ...numbers }: Readonly<Record<string, string>>): Fields {
  return {
    type,
    ...Object.fromEntries(Object.entries(numbers).map(([key, value]) => [key, Number(value)])),
    ...(cpus !== undefined && { cpus: cpus.split('-').map(Number) }),
    ...(memdev !== undefined && { memdev }),
  };
}

function checkDevice(schema: QemuSchema, { driver, id, bus, ...properties }: Fields): string[] {
  const known = schema.drivers[driver as string];
  if (known === undefined) return [`-device: ${String(driver)} is not in the dump`];
  const path = `-device ${driver as string}`;
  return [
    ...(typeof id === 'string' ? [] : [`${path}: no id`]),
    ...(bus === undefined || typeof bus === 'string' ? [] : [`${path}: bus is not a string`]),
    ...Object.entries(properties).flatMap(([name, value]) => {
      const type = known[name];
      if (type === undefined) return [`${path}: no property ${name}`];
      return jsTypes(name, type).includes(typeof value) ? [] : [`${path}: ${name} is not of type ${type}`];
    }),
  ];
}

function jsTypes(name: string, type: string): string[] {
  // PCI's devfn calls itself an int32 and also reads "slot.function".
  if (name === 'addr') return ['string'];
  if (type === 'bool') return ['boolean'];
  return /^(u?int\d+|size)$/.test(type) ? ['number'] : ['string'];
}

/** -chardev is flat where chardev-add nests; this is the nesting of the one backend in use. */
function checkChardev(
  checker: SchemaChecker,
  type: string,
  keys: Readonly<Record<string, string>>,
): string[] {
  const { id, fd, server, wait, ...rest } = keys;
  const flags = {
    ...(server !== undefined && { server: onOff(server) }),
    ...(wait !== undefined && { wait: onOff(wait) }),
  };
  const data = { addr: { type: 'fd', data: { str: fd } }, ...flags, ...rest };
  return checker.checkCommand('chardev-add', { id, backend: { type, data } });
}

function onOff(value: string | undefined): boolean | string | undefined {
  return value === 'on' ? true : value === 'off' ? false : value;
}

function unknownKeys(
  flag: string,
  keys: Readonly<Record<string, string>>,
  known: readonly string[],
): string[] {
  return Object.keys(keys)
    .filter((key) => !known.includes(key))
    .map((key) => `${flag}: no key ${key}`);
}

function splitSingleCommas(text: string): string[] {
  const parts = [''];
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (char !== ',') parts.push((parts.pop() ?? '') + char);
    else if (text[at + 1] === ',') parts.push((parts.pop() ?? '') + text.charAt(at++));
    else parts.push('');
  }
  return parts;
}
