import { VmError } from '../../core/errors.ts';

export type Label =
  'arp' | 'ipv4' | 'ipv6' | 'udp6' | 'icmp6' | 'fragment' | 'accept' | 'drop' | `extension${number}`;

/** One line of a program; a condition without `then` or `else` goes on with the next line. */
export type BpfLine =
  | { readonly label: Label }
  | {
      readonly load: 'word' | 'half' | 'byte' | 'half-behind-header' | 'byte-behind-header';
      readonly at: number;
    }
  | { readonly load: 'vlan-tag-present' | 'mark' }
  /** Makes the length of the IPv4 header at this offset the one that `…-behind-header` adds: the index register. */
  | { readonly loadHeaderLength: number }
  | { readonly loadIndex: number }
  /** Makes what was loaded the index. */
  | { readonly setIndex: true }
  /** Keeps what was loaded for `loadStored`. */
  | { readonly store: 0 }
  | { readonly loadStored: 0 }
  /** What was loaded, changed. */
  | { readonly add: number }
  | { readonly and: number }
  | { readonly shiftLeft: number }
  | { readonly addIndex: true }
  | { readonly ifEqual: number; readonly then?: Label; readonly else?: Label }
  | { readonly ifAnyBit: number; readonly then?: Label; readonly else?: Label }
  | { readonly jump: Label }
  | { readonly return: number };

type Instruction = Exclude<BpfLine, { readonly label: Label }>;

/** Instruction codes and the offset of ancillary data: linux/bpf_common.h, linux/filter.h. */
const LOAD = {
  word: 0x20,
  half: 0x28,
  byte: 0x30,
  'half-behind-header': 0x48,
  'byte-behind-header': 0x50,
} as const;
const ANCILLARY = { mark: 20, 'vlan-tag-present': 48 } as const;
const ANCILLARY_BASE = 0xfffff000;
const CODE = {
  loadIndex: 0x01,
  store: 0x02,
  add: 0x04,
  jump: 0x05,
  return: 0x06,
  setIndex: 0x07,
  addIndex: 0x0c,
  ifEqual: 0x15,
  ifAnyBit: 0x45,
  and: 0x54,
  loadStored: 0x60,
  shiftLeft: 0x64,
  loadHeaderLength: 0xb1,
} as const;

/**
 * A classic BPF program as an array of struct sock_filter in the byte order of this machine
 * (Documentation/networking/filter.rst). Jumps go forward only. A load beyond the end of the packet drops it.
 */
export function assembleBpf(lines: readonly BpfLine[]): Uint8Array {
  const labels = new Map<Label, number>();
  const instructions: Instruction[] = [];
  for (const line of lines) {
    if ('label' in line) labels.set(line.label, instructions.length);
    else instructions.push(line);
  }

  const bytes = new Uint8Array(instructions.length * 8);
  const codes = new Uint16Array(bytes.buffer);
  const constants = new Uint32Array(bytes.buffer);
  for (const [i, instruction] of instructions.entries()) {
    const distance = (label: Label | undefined): number => {
      const target = label === undefined ? i + 1 : labels.get(label);
      if (target === undefined || target <= i || target > i + 256) {
        throw new VmError(
          'Internal',
          `a packet filter cannot jump to ${label ?? 'its next line'}; this is a bug`,
        );
      }
      return target - i - 1;
    };
    const { code, constant, yes = 0, no = 0 } = encode(instruction, distance);
    codes[i * 4] = code;
    bytes[i * 8 + 2] = yes;
    bytes[i * 8 + 3] = no;
    constants[i * 2 + 1] = constant;
  }
  return bytes;
}

function encode(
  instruction: Instruction,
  distance: (label: Label | undefined) => number,
): { code: number; constant: number; yes?: number; no?: number } {
  if ('jump' in instruction) return { code: CODE.jump, constant: distance(instruction.jump) };
  if ('load' in instruction) {
    return 'at' in instruction
      ? { code: LOAD[instruction.load], constant: instruction.at }
      : { code: LOAD.word, constant: ANCILLARY_BASE + ANCILLARY[instruction.load] };
  }
  if ('ifEqual' in instruction || 'ifAnyBit' in instruction) {
    const branches = { yes: distance(instruction.then), no: distance(instruction.else) };
    return 'ifEqual' in instruction
      ? { code: CODE.ifEqual, constant: instruction.ifEqual, ...branches }
      : { code: CODE.ifAnyBit, constant: instruction.ifAnyBit, ...branches };
  }
  const [plain] = Object.entries(instruction) as [PlainName, number | true][];
  if (plain === undefined) throw new VmError('Internal', 'a packet filter has an empty line; this is a bug');
  const [name, operand] = plain;
  return { code: CODE[name], constant: operand === true ? 0 : operand };
}

/** Instructions whose one operand is their constant, if they have one. */
type PlainName = Exclude<keyof typeof CODE, 'jump' | 'ifEqual' | 'ifAnyBit'>;
