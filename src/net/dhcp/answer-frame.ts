import { answerArp, isArp } from './arp-answer.ts';
import { answerDhcp4 } from './dhcp4-answer.ts';
import { answerDhcp6 } from './dhcp6-answer.ts';
import type { FrameAnswer } from './frame-answer.ts';
import type { GuestLease } from './guest-lease.ts';
import { parseGuestPacket } from './guest-packet.ts';
import { sameBytes } from './ip-bytes.ts';
import { DHCP4_SERVER_PORT, DHCP6_SERVER_PORT } from './protocol-numbers.ts';
import { answerNeighborDiscovery } from './router-advertisement.ts';

/** What to answer to one frame that came from the guest. Pure, and total: any bytes are something. */
export function answerFrame(lease: GuestLease, frame: Uint8Array): FrameAnswer {
  if (isArp(frame)) return answerArp(lease, frame);
  const packet = parseGuestPacket(frame);
  if (packet === undefined) return { kind: 'malformed' };
  if (!sameBytes(packet.sourceMac, lease.mac)) return { kind: 'not-ours' };
  if (packet.kind === 'icmpv6') {
    return lease.v6 === undefined ? { kind: 'not-ours' } : answerNeighborDiscovery(lease, lease.v6, packet);
  }
  const ipv4 = packet.source.length === 4;
  if (ipv4 && packet.destinationPort === DHCP4_SERVER_PORT && lease.v4 !== undefined) {
    return answerDhcp4(lease, lease.v4, packet);
  }
  if (!ipv4 && packet.destinationPort === DHCP6_SERVER_PORT && lease.v6 !== undefined) {
    return answerDhcp6(lease, lease.v6, packet);
  }
  return { kind: 'not-ours' };
}
