import type { GuestInterface } from '../guest-network.ts';
import { ARP_REQUEST, encodeArpFrame } from './arp-frame.ts';
import { type FamilyPlan, planFamily } from './interface-routes.ts';
import { contains, parseMac, sameBytes } from './ip-bytes.ts';
import { encodeNeighborQuestion } from './neighbor-question.ts';

const BROADCAST = new Uint8Array(6).fill(0xff);
const UNKNOWN = new Uint8Array(6);

/**
 * What a guest would send that knew of its new link: its IPv4 addresses announced (RFC 5227, section 3), and a question
 * for the MAC address of each gateway (RFC 826; RFC 4861, section 4.3). Whoever is asked learns of the guest by that. The answers
 * go to the guest, which keeps its connections by them: a gateway that is the far end of the pod's link has another MAC address
 * with every sandbox, and a guest that was not told would use the old one for up to a minute.
 *
 * IPv6 addresses are in the questions alone. An unasked advertisement says whether its sender is a router, which of a guest nobody
 * knows, and neighbours take it for no router any more if it says so (RFC 4861, section 7.2.5).
 */
export function arrivalFrames(guest: GuestInterface): Buffer[] {
  const mac = parseMac(guest.mac);
  if (mac === undefined) return [];
  const [v4, v6] = [planFamily(guest, 4), planFamily(guest, 16)];
  const ask4 = (senderIp: Uint8Array, targetIp: Uint8Array): Buffer =>
    encodeArpFrame(ARP_REQUEST, {
      ...{ senderMac: mac, senderIp, targetMac: UNKNOWN, targetIp },
      destinationMac: BROADCAST,
    });
  return [
    ...v4.addresses.map(({ address }) => ask4(address, address)),
    ...questions(v4).map(({ source, gateway }) => ask4(source, gateway)),
    ...questions(v6).map(({ source, gateway }) => encodeNeighborQuestion(mac, gateway, source)),
  ];
}

/** Each gateway once, by the address that is in its network, or the first one. */
function questions({ addresses, routes }: FamilyPlan): { source: Uint8Array; gateway: Uint8Array }[] {
  const gateways = routes.flatMap(({ gateway }) => (gateway === undefined ? [] : [gateway]));
  return gateways
    .filter((gateway, i) => gateways.findIndex((other) => sameBytes(other, gateway)) === i)
    .flatMap((gateway) => {
      const near = addresses.find(({ subnet }) => contains(subnet, gateway)) ?? addresses[0];
      return near === undefined ? [] : [{ source: near.address, gateway }];
    });
}
