import { allocateFrame, FrameType, HEADER_LENGTH } from './frame.ts';
import { WireReader } from './wire-reader.ts';
import { delimitedFieldSize, int64FieldSize, WireWriter } from './wire-writer.ts';

/** Metadata of a call: keys in lower case, each with one or more values. */
export type Metadata = ReadonlyMap<string, readonly string[]>;

/** What a Request frame carries. */
export interface Request {
  /** Full name, such as `package.Service`. */
  readonly service: string;
  readonly method: string;
  readonly payload: Uint8Array;
  /** Nanoseconds that the client still waits; 0 for no limit, negative when the time is already over. */
  readonly timeoutNano: bigint;
  readonly metadata: Metadata;
}

/** `google.rpc.Status` without its details. `src/ttrpc/status.ts` gives the code its meaning. */
export interface Status {
  readonly code: number;
  readonly message: string;
}

/** What a Response frame carries; no status means success. */
export interface Response {
  readonly status: Status | undefined;
  readonly payload: Uint8Array;
}

const NO_BYTES = Buffer.alloc(0);
const NO_METADATA: Metadata = new Map();

// Tags as they stand on the wire: field number << 3 | wire type.
const RequestTag = { service: 0x0a, method: 0x12, payload: 0x1a, timeoutNano: 0x20, metadata: 0x2a } as const;
const ResponseTag = { status: 0x0a, payload: 0x12 } as const;
const StatusTag = { code: 0x08, message: 0x12 } as const;
const KeyValueTag = { key: 0x0a, value: 0x12 } as const;

/** @throws VmError InvalidArgument when `data` is no protobuf message. */
export function decodeRequest(data: Uint8Array): Request {
  const reader = new WireReader(data);
  let service = '';
  let method = '';
  let payload: Uint8Array = NO_BYTES;
  let timeoutNano = 0n;
  let metadata: Map<string, string[]> | undefined;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    switch (tag) {
      case RequestTag.service:
        service = reader.string();
        break;
      case RequestTag.method:
        method = reader.string();
        break;
      case RequestTag.payload:
        payload = reader.bytes();
        break;
      case RequestTag.timeoutNano:
        timeoutNano = reader.int64();
        break;
      case RequestTag.metadata:
        metadata ??= new Map();
        addKeyValue(metadata, reader.bytes());
        break;
      default:
        reader.skip(tag);
    }
  }
  return { service, method, payload, timeoutNano, metadata: metadata ?? NO_METADATA };
}

function addKeyValue(metadata: Map<string, string[]>, data: Uint8Array): void {
  const reader = new WireReader(data);
  let key = '';
  let value = '';
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === KeyValueTag.key) key = reader.string().toLowerCase();
    else if (tag === KeyValueTag.value) value = reader.string();
    else reader.skip(tag);
  }
  const values = metadata.get(key);
  if (values === undefined) metadata.set(key, [value]);
  else values.push(value);
}

/** @throws VmError InvalidArgument when `data` is no protobuf message. */
export function decodeResponse(data: Uint8Array): Response {
  const reader = new WireReader(data);
  let status: Status | undefined;
  let payload: Uint8Array = NO_BYTES;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === ResponseTag.status) status = decodeStatus(reader.bytes());
    else if (tag === ResponseTag.payload) payload = reader.bytes();
    else reader.skip(tag);
  }
  return { status, payload };
}

function decodeStatus(data: Uint8Array): Status {
  const reader = new WireReader(data);
  let code = 0;
  let message = '';
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === StatusTag.code) code = reader.int32();
    else if (tag === StatusTag.message) message = reader.string();
    else reader.skip(tag);
  }
  return { code, message };
}

/**
 * A whole Request frame.
 * @throws VmError ResourceExhausted when it would carry more than 4 MiB.
 */
export function encodeRequestFrame(streamId: number, flags: number, request: Request): Buffer {
  const { service, method, payload, timeoutNano, metadata } = request;
  const serviceLength = Buffer.byteLength(service);
  const methodLength = Buffer.byteLength(method);
  const pairs: { key: string; keyLength: number; value: string; valueLength: number; length: number }[] = [];
  let length = delimitedFieldSize(serviceLength) + delimitedFieldSize(methodLength);
  if (payload.byteLength > 0) length += delimitedFieldSize(payload.byteLength);
  if (timeoutNano !== 0n) length += int64FieldSize(timeoutNano);
  for (const [name, values] of metadata) {
    const key = name.toLowerCase();
    const keyLength = Buffer.byteLength(key);
    for (const value of values) {
      const valueLength = Buffer.byteLength(value);
      const pair = delimitedFieldSize(keyLength) + delimitedFieldSize(valueLength);
      pairs.push({ key, keyLength, value, valueLength, length: pair });
      length += delimitedFieldSize(pair);
    }
  }
  const frame = allocateFrame(streamId, FrameType.request, flags, length);
  const writer = new WireWriter(frame, HEADER_LENGTH);
  writer.string(1, service, serviceLength);
  writer.string(2, method, methodLength);
  if (payload.byteLength > 0) writer.bytes(3, payload);
  if (timeoutNano !== 0n) writer.int64(4, timeoutNano);
  for (const pair of pairs) {
    writer.delimited(5, pair.length);
    writer.string(1, pair.key, pair.keyLength);
    writer.string(2, pair.value, pair.valueLength);
  }
  return frame;
}

/**
 * A whole Response frame.
 * @throws VmError ResourceExhausted when it would carry more than 4 MiB.
 */
export function encodeResponseFrame(streamId: number, response: Response): Buffer {
  const { status, payload } = response;
  const messageLength = status === undefined ? 0 : Buffer.byteLength(status.message);
  const code = status === undefined ? 0n : BigInt(status.code);
  const statusLength = int64FieldSize(code) + delimitedFieldSize(messageLength);
  let length = status === undefined ? 0 : delimitedFieldSize(statusLength);
  if (payload.byteLength > 0) length += delimitedFieldSize(payload.byteLength);
  const frame = allocateFrame(streamId, FrameType.response, 0, length);
  const writer = new WireWriter(frame, HEADER_LENGTH);
  if (status !== undefined) {
    writer.delimited(1, statusLength);
    writer.int64(1, code);
    writer.string(2, status.message, messageLength);
  }
  if (payload.byteLength > 0) writer.bytes(2, payload);
  return frame;
}
