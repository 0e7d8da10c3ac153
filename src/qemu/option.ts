import { VmError } from '../core/errors.ts';
import type { JsonObject } from './qmp-codec.ts';

/** Options that QEMU 7.2 reads as JSON; what stands in them is what QMP's hot-plug commands take. */
export type JsonFlag = '-object' | '-blockdev' | '-netdev' | '-device';

/** Options that QEMU 7.2 reads only as `key=value,…`. */
export type KeyedFlag =
  | '-name'
  | '-machine'
  | '-cpu'
  | '-vnc'
  | '-smp'
  | '-m'
  | '-numa'
  | '-rtc'
  | '-boot'
  | '-global'
  | '-chardev'
  | '-mon'
  | '-add-fd'
  | '-sandbox'
  | '-accel';

/** Options whose value is one word that QEMU does not take apart. */
export type TextFlag = '-uuid' | '-kernel' | '-initrd' | '-append' | '-display' | '-watchdog-action';

export type SwitchFlag = '-nodefaults' | '-no-user-config' | '-no-shutdown' | '-no-reboot' | '-S';

/** One command line option as data. */
export type QemuOption =
  | { readonly flag: JsonFlag; readonly json: JsonObject }
  | {
      readonly flag: KeyedFlag;
      /** The leading value without a key: machine type, chardev backend, `on` of -sandbox. */
      readonly head?: string;
      readonly keys: Readonly<Record<string, string | number | boolean>>;
    }
  | { readonly flag: TextFlag; readonly text: string }
  | { readonly flag: SwitchFlag };

/** The words of one option as they stand in argv. InvalidArgument where a value holds a NUL byte. */
export function renderOption(option: QemuOption): string[] {
  const words = renderWords(option);
  if (words.some((word) => word.includes('\0'))) {
    throw new VmError(
      'InvalidArgument',
      `the value of QEMU's ${option.flag} holds a NUL byte; remove it from the pod's spec`,
    );
  }
  return words;
}

function renderWords(option: QemuOption): string[] {
  if ('json' in option) return [option.flag, JSON.stringify(option.json)];
  if ('text' in option) return [option.flag, option.text];
  if (!('keys' in option)) return [option.flag];
  const pairs = Object.entries(option.keys).map(([key, value]) => `${key}=${renderValue(value)}`);
  return [option.flag, [...(option.head === undefined ? [] : [option.head]), ...pairs].join(',')];
}

/** A comma ends a value in `key=value` lists and stands for itself when doubled; `=` needs nothing after a key. */
function renderValue(value: string | number | boolean): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return String(value).replaceAll(',', ',,');
}
