/** An independent, plain view of the frames, for checks: written from the RFCs, sharing no code with src. */

export const GUEST_MAC = '52:54:00:12:34:56';
export const BROADCAST_MAC = 'ff:ff:ff:ff:ff:ff';

export interface ReadFrame {
  readonly to: string;
  readonly from: string;
  /** 4, 6. */
  readonly family: number;
  readonly source: string;
  readonly destination: string;
  readonly hops: number;
  readonly protocol: number;
  readonly ports: readonly number[];
  /** Of UDP; for ICMPv6 the whole message. */
  readonly payload: Buffer;
}

/** Reads a frame and throws when a length or a checksum in it is wrong. */
export function readFrame(frame: Uint8Array): ReadFrame {
  const bytes = Buffer.from(frame);
  const family = (bytes[14] ?? 0) >> 4;
  const header = family === 4 ? 20 : 40;
  const addressLength = family === 4 ? 4 : 16;
  const addressesAt = 14 + header - 2 * addressLength;
  const source = bytes.subarray(addressesAt, addressesAt + addressLength);
  const destination = bytes.subarray(addressesAt + addressLength, addressesAt + 2 * addressLength);
  expect('EtherType', bytes.readUInt16BE(12), family === 4 ? 0x0800 : 0x86dd);
  const rest = bytes.subarray(14 + header);
  if (family === 4) {
    expect('total length', bytes.readUInt16BE(16), bytes.length - 14);
    expect('IPv4 checksum', sum16(bytes.subarray(14, 34)), 0xffff);
  } else {
    expect('payload length', bytes.readUInt16BE(18), rest.length);
  }
  const protocol = bytes[family === 4 ? 23 : 20] ?? 0;
  const pseudo = Buffer.alloc(4);
  pseudo.writeUInt16BE(rest.length, 0);
  pseudo.writeUInt16BE(protocol, 2);
  expect('transport checksum', sum16(Buffer.concat([source, destination, pseudo, rest])), 0xffff);
  const udp = protocol === 17;
  if (udp) {
    expect('UDP length', rest.readUInt16BE(4), rest.length);
    if (rest.readUInt16BE(6) === 0) throw new Error('the UDP checksum is left out');
  }
  return {
    to: mac(bytes.subarray(0, 6)),
    from: mac(bytes.subarray(6, 12)),
    family,
    source: address(source),
    destination: address(destination),
    hops: bytes[family === 4 ? 22 : 21] ?? 0,
    protocol,
    ports: udp ? [rest.readUInt16BE(0), rest.readUInt16BE(2)] : [],
    payload: udp ? rest.subarray(8) : rest,
  };
}

export interface Frame {
  readonly from?: string;
  readonly to?: string;
  readonly source?: string;
  readonly destination?: string;
  readonly hops?: number;
}

export function udp4Frame(payload: Uint8Array, frame: Frame & { port?: number } = {}): Buffer {
  const { source = '0.0.0.0', destination = '255.255.255.255', port = 67 } = frame;
  const datagram = Buffer.concat([u16(68), u16(port), u16(8 + payload.length), u16(0), payload]);
  const header = Buffer.from([0x45, 0, 0, 0, 0, 0, 0, 0, frame.hops ?? 64, 17, 0, 0]);
  header.writeUInt16BE(20 + datagram.length, 2);
  return Buffer.concat([link(frame, 0x0800), header, bytes4(source), bytes4(destination), datagram]);
}

export function udp6Frame(payload: Uint8Array, frame: Frame & { port?: number } = {}): Buffer {
  const datagram = Buffer.concat([
    u16(546),
    u16(frame.port ?? 547),
    u16(8 + payload.length),
    u16(0),
    payload,
  ]);
  return ipv6Frame(17, datagram, frame);
}

export function icmp6Frame(type: number, body: Uint8Array, frame: Frame = {}): Buffer {
  return ipv6Frame(58, Buffer.concat([Buffer.from([type, 0, 0, 0]), body]), { hops: 255, ...frame });
}

function ipv6Frame(protocol: number, message: Uint8Array, frame: Frame): Buffer {
  const { source = 'fe80000000000000505400fffe123456', destination = 'ff020000000000000000000000010002' } =
    frame;
  const header = Buffer.concat([
    Buffer.from([0x60, 0, 0, 0]),
    u16(message.length),
    Buffer.from([protocol, frame.hops ?? 64]),
  ]);
  return Buffer.concat([
    link(frame, 0x86dd),
    header,
    Buffer.from(source, 'hex'),
    Buffer.from(destination, 'hex'),
    message,
  ]);
}

export interface Dhcp4 {
  readonly op?: number;
  readonly broadcast?: boolean;
  readonly ciaddr?: string;
  readonly giaddr?: string;
  readonly chaddr?: string;
  /** Code and bytes in hex, in this order. */
  readonly options: readonly (readonly [number, string])[];
}

/** A message of a client, transaction 0x11223344. */
export function dhcp4(message: Dhcp4): Buffer {
  const fixed = Buffer.alloc(240);
  fixed.set([message.op ?? 1, 1, 6, 0, 0x11, 0x22, 0x33, 0x44]);
  if (message.broadcast === true) fixed[10] = 0x80;
  fixed.set(bytes4(message.ciaddr ?? '0.0.0.0'), 12);
  fixed.set(bytes4(message.giaddr ?? '0.0.0.0'), 24);
  fixed.set(macBytes(message.chaddr ?? GUEST_MAC), 28);
  fixed.set([0x63, 0x82, 0x53, 0x63], 236);
  const options = message.options.flatMap(([code, hex]) => [
    code,
    hex.length / 2,
    ...Buffer.from(hex, 'hex'),
  ]);
  return Buffer.concat([fixed, Buffer.from([...options, 255])]);
}

export interface ReadDhcp4 {
  readonly transaction: string;
  readonly broadcast: boolean;
  readonly ciaddr: string;
  readonly yiaddr: string;
  readonly chaddr: string;
  /** Bytes in hex by code, in order; parts of one option joined. */
  readonly options: ReadonlyMap<number, string>;
}

export function readDhcp4(payload: Buffer): ReadDhcp4 {
  expect('op', payload[0] ?? 0, 2);
  expect('cookie', payload.readUInt32BE(236), 0x63825363);
  if (payload.length < 300) throw new Error(`only ${payload.length} bytes`);
  const options = new Map<number, string>();
  let at = 240;
  while (payload[at] !== 255) {
    const code = payload[at] ?? 0;
    const length = payload[at + 1] ?? 0;
    options.set(code, (options.get(code) ?? '') + payload.subarray(at + 2, at + 2 + length).toString('hex'));
    at += 2 + length;
    if (at >= payload.length) throw new Error('no end of options');
  }
  return {
    transaction: payload.subarray(4, 8).toString('hex'),
    broadcast: payload[10] === 0x80,
    ciaddr: address(payload.subarray(12, 16)),
    yiaddr: address(payload.subarray(16, 20)),
    chaddr: mac(payload.subarray(28, 34)),
    options,
  };
}

/** Type, transaction and options of DHCPv6; each option is code and bytes in hex. */
export function dhcp6(type: number, options: readonly (readonly [number, string])[]): Buffer {
  const parts = options.map(([code, hex]) =>
    Buffer.concat([u16(code), u16(hex.length / 2), Buffer.from(hex, 'hex')]),
  );
  return Buffer.concat([Buffer.from([type, 0xaa, 0xbb, 0xcc]), ...parts]);
}

export function readDhcp6(payload: Buffer): {
  type: number;
  transaction: string;
  options: (readonly [number, string])[];
} {
  return {
    type: payload[0] ?? 0,
    transaction: payload.subarray(1, 4).toString('hex'),
    options: readTlv(payload.subarray(4)),
  };
}

export function readTlv(bytes: Buffer): (readonly [number, string])[] {
  const options: (readonly [number, string])[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt16BE(at + 2);
    if (at + 4 + length > bytes.length) throw new Error('an option goes beyond the end');
    options.push([bytes.readUInt16BE(at), bytes.subarray(at + 4, at + 4 + length).toString('hex')]);
    at += 4 + length;
  }
  return options;
}

/** Options of Neighbor Discovery: type and all bytes behind the length in hex. */
export function readNdOptions(bytes: Buffer): (readonly [number, string])[] {
  const options: (readonly [number, string])[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = (bytes[at + 1] ?? 0) * 8;
    if (length === 0 || at + length > bytes.length) throw new Error('an option goes beyond the end');
    options.push([bytes[at] ?? 0, bytes.subarray(at + 2, at + length).toString('hex')]);
    at += length;
  }
  return options;
}

export const text = (hex: string | undefined): string => Buffer.from(hex ?? '', 'hex').toString('latin1');

export function bytes4(dotted: string): Buffer {
  return Buffer.from(dotted.split('.').map(Number));
}

export function macBytes(colons: string): Buffer {
  return Buffer.from(colons.replaceAll(':', ''), 'hex');
}

function link({ from = GUEST_MAC, to = BROADCAST_MAC }: Frame, type: number): Buffer {
  return Buffer.concat([macBytes(to), macBytes(from), u16(type)]);
}

function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}

function sum16(bytes: Buffer): number {
  const even = bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(1)]);
  let sum = 0n;
  for (let at = 0; at < even.length; at += 2) sum += BigInt(even.readUInt16BE(at));
  return Number(sum === 0n ? 0n : ((sum - 1n) % 0xffffn) + 1n);
}

function mac(bytes: Buffer): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** Dotted, or 32 hex digits. */
function address(bytes: Buffer): string {
  return bytes.length === 4 ? bytes.join('.') : bytes.toString('hex');
}

function expect(what: string, found: number, wanted: number): void {
  if (found !== wanted) throw new Error(`${what} is ${found}, not ${wanted}`);
}
