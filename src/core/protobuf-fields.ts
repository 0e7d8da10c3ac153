import { VmError } from './errors.ts';

/** google.protobuf.Any. */
export interface AnyMessage {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/**
 * Length-delimited fields of a message by number; other wire types are skipped. For the few messages that `start` reads:
 * it is on every pod's critical path, and loading the generated codec would cost it 7 ms.
 * Source: protobuf encoding specification.
 * @throws VmError InvalidArgument.
 */
export function readFields(bytes: Uint8Array): Map<number, Uint8Array[]> {
  const fields = new Map<number, Uint8Array[]>();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined || shift > 63) throw malformed();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0:
        varint();
        break;
      case 1:
        at += 8;
        break;
      case 5:
        at += 4;
        break;
      case 2: {
        const length = varint();
        if (at + length > bytes.length) throw malformed();
        const list = fields.get(number) ?? [];
        list.push(bytes.subarray(at, at + length));
        fields.set(number, list);
        at += length;
        break;
      }
      default:
        throw malformed();
    }
  }
  return fields;
}

const malformed = (): VmError =>
  new VmError('InvalidArgument', 'the input is no protobuf message; only containerd should run this program');

/** A field as UTF-8 text; absent is empty, as in proto3. */
export const fieldText = (bytes: Uint8Array | undefined): string =>
  bytes === undefined ? '' : Buffer.from(bytes).toString('utf8');
