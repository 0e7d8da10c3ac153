import { VmError } from '../../core/errors.ts';

export type Label = 'ipv4' | 'ipv6' | 'udp6' | 'accept' | 'drop';

/** One line of a program; a condition without `then` or `else` goes on with the next line. */
export type BpfLine =
  | { readonly label: Label }
  | { readonly load: 'word' | 'half' | 'byte' | 'half-behind-header'; readonly at: number }
  | { readonly load: 'vlan-tag-present' }
  /** Makes the length of the IPv4 header at this offset the one that `half-behind-header` adds. */
  | { readonly loadHeaderLength: number }
  | { readonly ifEqual: number; readonly then?: Label; readonly else?: Label }
  | { readonly ifAnyBit: number; readonly then?: Label; readonly else?: Label }
  | { readonly jump: Label }
  | { readonly return: number };

type Instruction = Exclude<BpfLine, { readonly label: Label }>;

/** Instruction codes and the offset of ancillary data: linux/bpf_common.h, linux/filter.h. */
const LOAD = { word: 0x20, half: 0x28, byte: 0x30, 'half-behind-header': 0x48 } as const;
const LOAD_HEADER_LENGTH = 0xb1;
const JUMP = 0x05;
const JUMP_IF_EQUAL = 0x15;
const JUMP_IF_ANY_BIT = 0x45;
const RETURN = 0x06;
const ANCILLARY = 0xfffff000;
const ANCILLARY_VLAN_TAG_PRESENT = 48;

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
  if ('return' in instruction) return { code: RETURN, constant: instruction.return };
  if ('jump' in instruction) return { code: JUMP, constant: distance(instruction.jump) };
  if ('loadHeaderLength' in instruction)
    return { code: LOAD_HEADER_LENGTH, constant: instruction.loadHeaderLength };
  if ('load' in instruction) {
    return instruction.load === 'vlan-tag-present'
      ? { code: LOAD.word, constant: ANCILLARY + ANCILLARY_VLAN_TAG_PRESENT }
      : { code: LOAD[instruction.load], constant: instruction.at };
  }
  const branches = { yes: distance(instruction.then), no: distance(instruction.else) };
  return 'ifEqual' in instruction
    ? { code: JUMP_IF_EQUAL, constant: instruction.ifEqual, ...branches }
    : { code: JUMP_IF_ANY_BIT, constant: instruction.ifAnyBit, ...branches };
}
