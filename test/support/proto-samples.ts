import protobuf from 'protobufjs';

/** A message as a plain object: keys in camelCase, every field present but `optional` ones and submessages that are not set. */
export interface Sample {
  [field: string]: Value | undefined;
}
export type Value = string | number | boolean | Uint8Array | Sample | readonly Value[];

/** What a .proto field is called in the generated code. */
export const jsName = (field: protobuf.Field): string => protobuf.util.jsonName(field.name);

const TEXTS = [
  'x',
  'container-1',
  '/run/containerd/fifo',
  'ünï→日本',
  '"quoted" \\ \'',
  'tab\tline\nbell\x07',
  ' ',
];
const WIDTH_32 = [1, 127, 128, 300, 2 ** 31 - 1];
const UNSIGNED_64 = [1, 2 ** 32, 2 ** 53 - 1, 2 ** 53 + 2, 2 ** 63 - 4096, 2 ** 63];
const SIGNED_64 = [1, -1, 1_790_000_000, -62_135_596_800, 2 ** 53 - 1, -(2 ** 53) + 1];

/** Makes random messages of a reflected type; the same seed makes the same messages. */
export class SampleMaker {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** `density` is the share of fields that are set. */
  make(type: protobuf.Type, density: number): Sample {
    const sample: Sample = {};
    for (const field of type.fieldsArray) sample[jsName(field)] = this.#fieldValue(field, density);
    return sample;
  }

  #fieldValue(field: protobuf.Field, density: number): Value | undefined {
    const set = this.#random() < density;
    if (field.map) {
      const entries = set ? this.#some(() => [this.#pick(TEXTS), this.#single(field, density)] as const) : [];
      return Object.fromEntries(entries);
    }
    if (field.repeated) return set ? this.#some(() => this.#single(field, density)) : [];
    if (set) return this.#single(field, density);
    const mayBeAbsent =
      field.resolvedType instanceof protobuf.Type || field.options?.['proto3_optional'] === true;
    return mayBeAbsent ? undefined : zeroOf(field);
  }

  #single(field: protobuf.Field, density: number): Value {
    if (field.resolvedType instanceof protobuf.Type) return this.make(field.resolvedType, density);
    if (field.resolvedType instanceof protobuf.Enum)
      return this.#pick(Object.values(field.resolvedType.values));
    switch (field.type) {
      case 'string':
        return this.#pick(TEXTS);
      case 'bytes':
        return Buffer.from(this.#some(() => Math.floor(this.#random() * 256)));
      case 'bool':
        return true;
      case 'uint32':
        return this.#pick([...WIDTH_32, 2 ** 32 - 1]);
      case 'int32':
        return this.#pick([...WIDTH_32, -1, -(2 ** 31)]);
      case 'uint64':
        return this.#pick(UNSIGNED_64);
      case 'int64':
        return this.#pick(SIGNED_64);
      case 'double':
        return this.#pick([0.5, -1.25, 1_790_000_000_123.25]);
      default:
        throw new Error(`no samples for ${field.type} (${field.fullName})`);
    }
  }

  #some<T>(make: () => T): T[] {
    return Array.from({ length: 1 + Math.floor(this.#random() * 3) }, make);
  }

  #pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.#random() * values.length)]!;
  }

  // Numerical Recipes' linear congruential generator: its high bits are random enough to choose test values.
  #random(): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#state / 2 ** 32;
  }
}

/** A decoded message as a `Sample`, by the fields that `type` declares. */
export function toSample(type: protobuf.Type, message: Readonly<Record<string, unknown>>): Sample {
  const convert = (field: protobuf.Field, value: unknown): Value =>
    field.resolvedType instanceof protobuf.Type
      ? toSample(field.resolvedType, value as Record<string, unknown>)
      : value instanceof Uint8Array
        ? Buffer.from(value)
        : (value as Value);
  const sample: Sample = {};
  for (const field of type.fieldsArray) {
    const value = message[jsName(field)];
    if (value === undefined || value === null) sample[jsName(field)] = undefined;
    else if (field.map) sample[jsName(field)] = mapValues(value, (entry) => convert(field, entry));
    else if (field.repeated) sample[jsName(field)] = (value as unknown[]).map((item) => convert(field, item));
    else sample[jsName(field)] = convert(field, value);
  }
  return sample;
}

/** The lines that `protoc --decode` prints for a message. */
export function toText(type: protobuf.Type, sample: Sample): string[] {
  const fields = [...type.fieldsArray].sort((a, b) => a.id - b.id);
  return fields.flatMap((field) => {
    const value = sample[jsName(field)];
    if (value === undefined) return [];
    if (field.map) {
      return Object.entries(value as Sample)
        .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
        .flatMap(([key, entry]) =>
          block(field.name, [`key: ${quote(Buffer.from(key))}`, ...lines(field, 'value', entry!)]),
        );
    }
    if (field.repeated) return (value as readonly Value[]).flatMap((item) => lines(field, field.name, item));
    return isZero(field, value) ? [] : lines(field, field.name, value);
  });
}

/** A submessage of protoc's text format. */
export function block(name: string, body: readonly string[]): string[] {
  return [`${name} {`, ...body.map((line) => `  ${line}`), '}'];
}

function lines(field: protobuf.Field, name: string, value: Value): string[] {
  if (field.resolvedType instanceof protobuf.Type)
    return block(name, toText(field.resolvedType, value as Sample));
  if (field.resolvedType instanceof protobuf.Enum)
    return [`${name}: ${field.resolvedType.valuesById[value as number]}`];
  if (typeof value === 'string') return [`${name}: ${quote(Buffer.from(value))}`];
  if (value instanceof Uint8Array) return [`${name}: ${quote(value)}`];
  // BigInt: a number above 1e21 would print with an exponent, one above 2^53 with zeros for its last digits.
  if (typeof value === 'number' && Number.isInteger(value)) return [`${name}: ${BigInt(value)}`];
  return [`${name}: ${value as number | boolean}`];
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '"': '\\"',
  "'": "\\'",
  '\\': '\\\\',
};

function quote(bytes: Uint8Array): string {
  const chars = Array.from(bytes, (byte) => {
    const char = String.fromCharCode(byte);
    const printable = byte >= 0x20 && byte < 0x7f;
    return ESCAPES[char] ?? (printable ? char : `\\${byte.toString(8).padStart(3, '0')}`);
  });
  return `"${chars.join('')}"`;
}

function zeroOf(field: protobuf.Field): Value {
  return field.type === 'bytes'
    ? Buffer.alloc(0)
    : field.type === 'string'
      ? ''
      : field.type === 'bool'
        ? false
        : 0;
}

function isZero(field: protobuf.Field, value: Value): boolean {
  if (field.resolvedType instanceof protobuf.Type) return false;
  return value instanceof Uint8Array ? value.length === 0 : value === zeroOf(field);
}

function mapValues(value: object, convert: (entry: unknown) => Value): Sample {
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, convert(entry)]));
}
