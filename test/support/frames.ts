import { canonicalIp } from '../../src/net/cni/ip-address.ts';

/** Ethernet frames as a guest could write them, right or wrong. */

export const BROADCAST = 'ff:ff:ff:ff:ff:ff';
export const ARP = 0x0806;
export const IPV4 = 0x0800;
export const IPV6 = 0x86dd;

/** Without padding, which a TAP does not need and the kernel may cut off. */
export function ethernet(destination: string, source: string, type: number, payload: Uint8Array): Buffer {
  return Buffer.concat([macBytes(destination), macBytes(source), u16(type), payload]);
}

export interface ArpFields {
  readonly operation: number;
  readonly senderMac: string;
  readonly senderIp: string;
  readonly targetMac?: string;
  readonly targetIp: string;
  readonly hardwareType?: number;
  readonly hardwareLength?: number;
}

export function arp(fields: ArpFields): Buffer {
  const { hardwareType = 1, hardwareLength = 6, targetMac = '00:00:00:00:00:00' } = fields;
  return Buffer.concat([
    ...[u16(hardwareType), u16(IPV4), Buffer.from([hardwareLength, 4]), u16(fields.operation)],
    ...[macBytes(fields.senderMac), ipBytes(fields.senderIp), macBytes(targetMac), ipBytes(fields.targetIp)],
  ]);
}

export function ipv4(source: string, destination: string, protocol: number, payload: Uint8Array): Buffer {
  const header = Buffer.concat([
    ...[
      Buffer.from([0x45, 0]),
      u16(20 + payload.length),
      u16(1),
      u16(0),
      Buffer.from([64, protocol]),
      u16(0),
    ],
    ...[ipBytes(source), ipBytes(destination)],
  ]);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, payload]);
}

export function udp(sourcePort: number, destinationPort: number, data: Uint8Array): Buffer {
  return Buffer.concat([u16(sourcePort), u16(destinationPort), u16(8 + data.length), u16(0), data]);
}

export function icmp(type: number, body: Uint8Array): Buffer {
  const message = Buffer.concat([Buffer.from([type, 0, 0, 0]), body]);
  message.writeUInt16BE(checksum(message), 2);
  return message;
}

export function ipv6(source: string, destination: string, nextHeader: number, payload: Uint8Array): Buffer {
  return Buffer.concat([
    ...[Buffer.from([0x60, 0, 0, 0]), u16(payload.length), Buffer.from([nextHeader, 255])],
    ...[ipBytes(source), ipBytes(destination), payload],
  ]);
}

/** A packet of ICMPv6 with its checksum, which is over the addresses too. */
export function icmp6Packet(source: string, destination: string, type: number, body: Uint8Array): Buffer {
  const message = Buffer.concat([Buffer.from([type, 0, 0, 0]), body]);
  const pseudo = [ipBytes(source), ipBytes(destination), u32(message.length), Buffer.from([0, 0, 0, 58])];
  message.writeUInt16BE(checksum(Buffer.concat([...pseudo, message])), 2);
  return ipv6(source, destination, 58, message);
}

/** Body of a neighbour solicitation or advertisement, RFC 4861, 4.3 and 4.4. */
export function neighbor(flags: number, target: string, optionType: number, mac: string): Buffer {
  return Buffer.concat([u32(flags), ipBytes(target), Buffer.from([optionType, 1]), macBytes(mac)]);
}

/** IPv6 fragment header with what it precedes. */
export function fragment(nextHeader: number, offset: number, more: boolean, payload: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([nextHeader, 0]), u16(offset | Number(more)), u32(7), payload]);
}

export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

export function macText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

export function ipBytes(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail = ''] = (canonicalIp(address) ?? '').split('::');
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  const [before, after] = [groups(head), groups(tail)];
  const zeros = new Array<number>(8 - before.length - after.length).fill(0);
  return Buffer.concat([...before, ...zeros, ...after].map(u16));
}

/** RFC 1071. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

function u16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}
