/** DHCP message types (RFC 2132, section 9.6). */
export const Dhcp4Type = {
  DISCOVER: 1,
  OFFER: 2,
  REQUEST: 3,
  DECLINE: 4,
  ACK: 5,
  NAK: 6,
  RELEASE: 7,
  INFORM: 8,
} as const;

/** Option codes: RFC 2132 and, for the last ones, RFC 3397, RFC 3442, RFC 4039 and Microsoft's own of option 121. */
export const Dhcp4Option = {
  SUBNET_MASK: 1,
  ROUTER: 3,
  DOMAIN_NAME_SERVER: 6,
  HOST_NAME: 12,
  DOMAIN_NAME: 15,
  INTERFACE_MTU: 26,
  REQUESTED_ADDRESS: 50,
  LEASE_TIME: 51,
  MESSAGE_TYPE: 53,
  SERVER_ID: 54,
  PARAMETER_REQUEST_LIST: 55,
  MESSAGE: 56,
  MAX_MESSAGE_SIZE: 57,
  CLIENT_ID: 61,
  RAPID_COMMIT: 80,
  DOMAIN_SEARCH: 119,
  CLASSLESS_ROUTES: 121,
  CLASSLESS_ROUTES_MICROSOFT: 249,
} as const;

/** What a client sends (RFC 2131, section 2); byte arrays are parts of the datagram. */
export interface Dhcp4Request {
  readonly type: number;
  readonly transactionId: Uint8Array;
  readonly broadcast: boolean;
  /** 0.0.0.0 unless the client has and uses an address. */
  readonly clientAddress: Uint8Array;
  readonly relayAddress: Uint8Array;
  readonly hardwareAddress: Uint8Array;
  readonly options: ReadonlyMap<number, Uint8Array>;
}

export interface Dhcp4Reply {
  readonly type: number;
  /** 0.0.0.0 when none is given. */
  readonly yourAddress: Uint8Array;
  /** Copied from the request (RFC 2131, table 3). */
  readonly clientAddress: Uint8Array;
  readonly options: readonly OptionBytes[];
}

export interface OptionBytes {
  readonly code: number;
  readonly bytes: Uint8Array;
}

const FIXED = 236;
const MAGIC_COOKIE = 0x63825363;
const OPTIONS = FIXED + 4;
/** BOOTP's length of a message (RFC 951), which some clients still want of every answer. */
const SHORTEST = 300;

/**
 * Reads a BOOTREQUEST of an Ethernet client. Undefined when it is none, has no message type, or an option goes beyond its
 * end. An option given twice is one option in two parts (RFC 3396).
 */
export function parseDhcp4Request(payload: Uint8Array): Dhcp4Request | undefined {
  if (payload.length < OPTIONS) return undefined;
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  const [operation, hardwareType, hardwareLength] = bytes;
  if (operation !== 1 || hardwareType !== 1 || hardwareLength !== 6) return undefined;
  if (bytes.readUInt32BE(FIXED) !== MAGIC_COOKIE) return undefined;
  const options = parseOptions(payload.subarray(OPTIONS));
  const [type] = options?.get(Dhcp4Option.MESSAGE_TYPE) ?? [];
  if (options === undefined || type === undefined) return undefined;
  return {
    type,
    transactionId: payload.subarray(4, 8),
    broadcast: (bytes.readUInt16BE(10) & 0x8000) !== 0,
    clientAddress: payload.subarray(12, 16),
    relayAddress: payload.subarray(24, 28),
    hardwareAddress: payload.subarray(28, 34),
    options,
  };
}

function parseOptions(bytes: Uint8Array): Map<number, Uint8Array> | undefined {
  const options = new Map<number, Uint8Array>();
  for (let at = 0; at < bytes.length;) {
    const code = bytes[at++] ?? END;
    if (code === PAD) continue;
    if (code === END) break;
    const length = bytes[at++];
    if (length === undefined || at + length > bytes.length) return undefined;
    const part = bytes.subarray(at, at + length);
    const before = options.get(code);
    options.set(code, before === undefined ? part : Uint8Array.from([...before, ...part]));
    at += length;
  }
  return options;
}

const PAD = 0;
const END = 255;

/** A BOOTREPLY for that request, at least 300 bytes. */
export function encodeDhcp4Reply(request: Dhcp4Request, reply: Dhcp4Reply): Buffer {
  const fixed = Buffer.alloc(OPTIONS);
  fixed.set([2, 1, 6, 0], 0);
  fixed.set(request.transactionId, 4);
  fixed.writeUInt16BE(request.broadcast ? 0x8000 : 0, 10);
  fixed.set(reply.clientAddress, 12);
  fixed.set(reply.yourAddress, 16);
  fixed.set(request.hardwareAddress, 28);
  fixed.writeUInt32BE(MAGIC_COOKIE, FIXED);
  const type = { code: Dhcp4Option.MESSAGE_TYPE, bytes: Uint8Array.of(reply.type) };
  const message = Buffer.concat([fixed, ...[type, ...reply.options].map(encodeOption), Uint8Array.of(END)]);
  return Buffer.concat([message], Math.max(SHORTEST, message.length));
}

/** Bytes that a message without options of ours takes: the fixed part, the message type and the end. */
export const DHCP4_OVERHEAD = OPTIONS + 3 + 1;

/** More than 255 bytes go into several options of the same code (RFC 3396). */
export function encodeOption({ code, bytes }: OptionBytes): Uint8Array {
  const parts: number[] = [];
  for (let at = 0; at === 0 || at < bytes.length; at += 255) {
    const part = bytes.subarray(at, at + 255);
    parts.push(code, part.length, ...part);
  }
  return Uint8Array.from(parts);
}
