import {
  Dhcp4Option,
  Dhcp4Type,
  type Dhcp4Request,
  encodeDhcp4Reply,
  type OptionBytes,
  parseDhcp4Request,
} from './dhcp4-message.ts';
import { configurationOptions } from './dhcp4-options.ts';
import { encodeUdpFrame } from './encode-packet.ts';
import type { FrameAnswer } from './frame-answer.ts';
import type { GuestLease } from './guest-lease.ts';
import type { UdpPacket } from './guest-packet.ts';
import { isUnspecified, sameBytes } from './ip-bytes.ts';
import type { Lease4 } from './lease4.ts';
import { DHCP4_CLIENT_PORT, DHCP4_SERVER_PORT, FOREVER } from './protocol-numbers.ts';

const BROADCAST_MAC = new Uint8Array(6).fill(0xff);
const BROADCAST = new Uint8Array(4).fill(0xff);
const UNSPECIFIED = new Uint8Array(4);

/**
 * The answer to a datagram for port 67, as RFC 2131 §4.3 has it, of a server with authority over the link and one lease:
 * a client that asks for another address is told no, so that it starts anew and gets the right one.
 */
export function answerDhcp4(lease: GuestLease, v4: Lease4, packet: UdpPacket): FrameAnswer {
  const request = parseDhcp4Request(packet.payload);
  if (request === undefined) return { kind: 'malformed' };
  const relayed = !isUnspecified(request.relayAddress);
  if (relayed || !sameBytes(request.hardwareAddress, lease.mac)) return { kind: 'not-ours' };
  switch (request.type) {
    case Dhcp4Type.DISCOVER:
      return request.options.has(Dhcp4Option.RAPID_COMMIT)
        ? acknowledge(lease, v4, request, [{ code: Dhcp4Option.RAPID_COMMIT, bytes: new Uint8Array() }])
        : give('offer', Dhcp4Type.OFFER, lease, v4, request, []);
    case Dhcp4Type.REQUEST:
      return answerRequest(lease, v4, request);
    case Dhcp4Type.INFORM:
      return answerInform(lease, v4, request);
    case Dhcp4Type.DECLINE:
      return { kind: 'declined' };
    case Dhcp4Type.RELEASE:
      return { kind: 'released' };
    default:
      return { kind: 'malformed' };
  }
}

// Which of the four states the client is in shows in which addresses it names (RFC 2131, section 4.3.2).
function answerRequest(lease: GuestLease, v4: Lease4, request: Dhcp4Request): FrameAnswer {
  const server = request.options.get(Dhcp4Option.SERVER_ID);
  if (server !== undefined && !sameBytes(server, v4.serverId)) return { kind: 'not-ours' };
  const wanted = request.options.get(Dhcp4Option.REQUESTED_ADDRESS) ?? request.clientAddress;
  if (wanted.length !== 4 || isUnspecified(wanted)) return { kind: 'malformed' };
  return sameBytes(wanted, v4.address) ? acknowledge(lease, v4, request, []) : refuse(lease, v4, request);
}

function acknowledge(
  lease: GuestLease,
  v4: Lease4,
  request: Dhcp4Request,
  more: readonly OptionBytes[],
): FrameAnswer {
  return give('ack', Dhcp4Type.ACK, lease, v4, request, more);
}

function give(
  kind: 'offer' | 'ack',
  type: number,
  lease: GuestLease,
  v4: Lease4,
  request: Dhcp4Request,
  more: readonly OptionBytes[],
): FrameAnswer {
  const renewing = !isUnspecified(request.clientAddress);
  const beside = [...identifiers(v4, request), leaseTime(), ...more];
  const payload = encodeDhcp4Reply(request, {
    type,
    yourAddress: v4.address,
    clientAddress: type === Dhcp4Type.ACK ? request.clientAddress : UNSPECIFIED,
    options: [...beside, ...configurationOptions(lease, v4, request, beside)],
  });
  const everybody = request.broadcast && !renewing;
  return { kind, frame: frameTo(lease, v4, payload, everybody ? BROADCAST : v4.address) };
}

function refuse(lease: GuestLease, v4: Lease4, request: Dhcp4Request): FrameAnswer {
  const payload = encodeDhcp4Reply(request, {
    type: Dhcp4Type.NAK,
    yourAddress: UNSPECIFIED,
    clientAddress: UNSPECIFIED,
    options: [
      ...identifiers(v4, request),
      { code: Dhcp4Option.MESSAGE, bytes: Buffer.from('this VM has another address') },
    ],
  });
  return { kind: 'nak', frame: frameTo(lease, v4, payload, BROADCAST) };
}

// The client has its address from elsewhere, so neither an address nor a lease time goes back (RFC 2131, section 4.3.5).
function answerInform(lease: GuestLease, v4: Lease4, request: Dhcp4Request): FrameAnswer {
  if (isUnspecified(request.clientAddress)) return { kind: 'malformed' };
  const beside = identifiers(v4, request);
  const payload = encodeDhcp4Reply(request, {
    type: Dhcp4Type.ACK,
    yourAddress: UNSPECIFIED,
    clientAddress: request.clientAddress,
    options: [...beside, ...configurationOptions(lease, v4, request, beside)],
  });
  return { kind: 'inform-ack', frame: frameTo(lease, v4, payload, request.clientAddress) };
}

function frameTo(lease: GuestLease, v4: Lease4, payload: Uint8Array, destination: Uint8Array): Buffer {
  const path = {
    sourceMac: lease.serverMac,
    destinationMac: destination === BROADCAST ? BROADCAST_MAC : lease.mac,
    source: v4.serverId,
    destination,
  };
  return encodeUdpFrame(path, DHCP4_SERVER_PORT, DHCP4_CLIENT_PORT, payload);
}

/** Ours, and the client's if it gave one (RFC 6842). */
function identifiers(v4: Lease4, request: Dhcp4Request): OptionBytes[] {
  const client = request.options.get(Dhcp4Option.CLIENT_ID);
  return [
    { code: Dhcp4Option.SERVER_ID, bytes: v4.serverId },
    ...(client === undefined ? [] : [{ code: Dhcp4Option.CLIENT_ID, bytes: client }]),
  ];
}

function leaseTime(): OptionBytes {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(FOREVER);
  return { code: Dhcp4Option.LEASE_TIME, bytes };
}
