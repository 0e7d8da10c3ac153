import { answerFrame } from '../../../src/net/dhcp/answer-frame.ts';
import { planGuestLease } from '../../../src/net/dhcp/guest-lease.ts';
import { bridged, neighbour, routed } from '../../unit/net/dhcp/guests.ts';
import {
  bytes4,
  dhcp4,
  dhcp6,
  GUEST_MAC,
  icmp6Frame,
  macBytes,
  readFrame,
  udp4Frame,
  udp6Frame,
} from '../../unit/net/dhcp/wire.ts';
import { mutateBytes } from '../mutate.ts';
import { type FuzzTarget, showBytes, Unsound } from '../target.ts';

const NODE = '52:54:00:aa:aa:aa';

/** Whatever a guest sends to its TAP. */
export function dhcpTarget(): FuzzTarget {
  const leases = [
    planGuestLease(bridged, { router6: neighbour, hostname: 'web-0' }),
    planGuestLease(routed, { nodeMac: NODE }),
  ];
  const arp = Buffer.concat([
    Buffer.from('ffffffffffff', 'hex'),
    macBytes(GUEST_MAC),
    Buffer.from('08060001080006040001', 'hex'),
    macBytes(GUEST_MAC),
    bytes4('10.1.2.3'),
    Buffer.alloc(6),
    bytes4('169.254.1.1'),
  ]);
  const clientId = `00030001${macBytes(GUEST_MAC).toString('hex')}`;
  const frames: readonly Buffer[] = [
    arp,
    udp4Frame(dhcp4({ options: [[53, '01']] })),
    udp4Frame(
      dhcp4({
        options: [
          [53, '03'],
          [50, '0a010203'],
          [54, '0a010201'],
          [55, '0103061c'],
          [57, '05dc'],
        ],
      }),
    ),
    udp6Frame(
      dhcp6(1, [
        [1, clientId],
        [3, '000000010000000000000000'],
        [6, '00170018'],
      ]),
    ),
    udp6Frame(
      dhcp6(3, [
        [1, clientId],
        [2, clientId],
        [3, '000000010000000000000000'],
      ]),
    ),
    icmp6Frame(133, Buffer.from('00000000', 'hex')),
    icmp6Frame(135, Buffer.concat([Buffer.alloc(4), Buffer.from('fd000001000000000000000000000001', 'hex')])),
  ];
  return {
    name: 'dhcp',
    about: 'frames of a guest at its DHCP responder',
    make: (random) => {
      const bytes = mutateBytes(random, random.pick(frames), random.pick(frames));
      const lease = random.pick(leases);
      return {
        show: () => showBytes(bytes),
        run: () => {
          const { frame } = answerFrame(lease, bytes);
          if (frame === undefined) return;
          if (frame.length > 1514 + 4) throw new Unsound(`an answer of ${frame.length} bytes`);
          if (Buffer.from(frame).readUInt16BE(12) !== 0x0806) readFrame(frame);
        },
      };
    },
  };
}
