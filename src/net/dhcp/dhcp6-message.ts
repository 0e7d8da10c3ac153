/** DHCPv6 message types (RFC 8415, section 7.3). */
export const Dhcp6Type = {
  SOLICIT: 1,
  ADVERTISE: 2,
  REQUEST: 3,
  CONFIRM: 4,
  RENEW: 5,
  REBIND: 6,
  REPLY: 7,
  RELEASE: 8,
  DECLINE: 9,
  INFORMATION_REQUEST: 11,
} as const;

/** Option codes (RFC 8415, section 21; RFC 3646 for DNS). */
export const Dhcp6Option = {
  CLIENT_ID: 1,
  SERVER_ID: 2,
  IA_NA: 3,
  IA_ADDRESS: 5,
  PREFERENCE: 7,
  STATUS_CODE: 13,
  RAPID_COMMIT: 14,
  DNS_SERVERS: 23,
  DOMAIN_LIST: 24,
  IA_PD: 25,
} as const;

/** RFC 8415, section 21.13. */
export const Dhcp6Status = {
  SUCCESS: 0,
  NO_ADDRESSES: 2,
  NO_BINDING: 3,
  NOT_ON_LINK: 4,
  NO_PREFIXES: 6,
} as const;

/** Byte arrays are parts of the datagram. */
export interface Dhcp6Message {
  readonly type: number;
  readonly transactionId: Uint8Array;
  readonly options: readonly Dhcp6OptionBytes[];
}

export interface Dhcp6OptionBytes {
  readonly code: number;
  readonly bytes: Uint8Array;
}

/** Undefined when it is too short or an option goes beyond its end. */
export function parseDhcp6(payload: Uint8Array): Dhcp6Message | undefined {
  const options = parseDhcp6Options(payload.subarray(4));
  const [type] = payload;
  if (payload.length < 4 || type === undefined || options === undefined) return undefined;
  return { type, transactionId: payload.subarray(1, 4), options };
}

/** The options of a message, or those within an option. */
export function parseDhcp6Options(bytes: Uint8Array): readonly Dhcp6OptionBytes[] | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const options: Dhcp6OptionBytes[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + 4 > bytes.length) return undefined;
    const end = at + 4 + view.getUint16(at + 2);
    if (end > bytes.length) return undefined;
    options.push({ code: view.getUint16(at), bytes: bytes.subarray(at + 4, end) });
    at = end;
  }
  return options;
}

export function encodeDhcp6(message: Dhcp6Message): Buffer {
  return Buffer.concat([
    Uint8Array.of(message.type),
    message.transactionId,
    ...message.options.map(encodeDhcp6Option),
  ]);
}

export function encodeDhcp6Option({ code, bytes }: Dhcp6OptionBytes): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt16BE(code, 0);
  header.writeUInt16BE(bytes.length, 2);
  return Buffer.concat([header, bytes]);
}
