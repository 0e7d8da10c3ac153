import {
  Dhcp6Option,
  type Dhcp6Message,
  type Dhcp6OptionBytes,
  Dhcp6Status,
  Dhcp6Type,
  encodeDhcp6,
  parseDhcp6,
} from './dhcp6-message.ts';
import { encodeFittingDomainNames } from './domain-names.ts';
import { encodeUdpFrame } from './encode-packet.ts';
import type { FrameAnswer } from './frame-answer.ts';
import type { GuestLease } from './guest-lease.ts';
import type { UdpPacket } from './guest-packet.ts';
import {
  grantAssociations,
  type IdentityAssociation,
  identityAssociations,
  statusCode,
} from './identity-association.ts';
import { isLinkLocalIpv6, sameBytes } from './ip-bytes.ts';
import type { Lease6 } from './lease6.ts';
import { DHCP6_CLIENT_PORT, DHCP6_SERVER_PORT } from './protocol-numbers.ts';

/** One message of the client and all that its answer is made of. */
interface Exchange {
  readonly lease: GuestLease;
  readonly v6: Lease6;
  readonly packet: UdpPacket;
  readonly message: Dhcp6Message;
  readonly associations: readonly IdentityAssociation[];
}

/**
 * The answer to a datagram for port 547, as RFC 8415 §18.3 has it. Clients send everything to the multicast address of all
 * servers, renewals too, since we never give them the Server Unicast option: no answer depends on a route.
 */
export function answerDhcp6(lease: GuestLease, v6: Lease6, packet: UdpPacket): FrameAnswer {
  const message = parseDhcp6(packet.payload);
  const associations = message === undefined ? undefined : identityAssociations(message.options);
  if (message === undefined || associations === undefined || !isLinkLocalIpv6(packet.source))
    return { kind: 'malformed' };
  const problem = addressee(message, v6);
  if (problem !== undefined) return { kind: problem };

  const exchange = { lease, v6, packet, message, associations };
  switch (message.type) {
    case Dhcp6Type.SOLICIT:
      return answerSolicit(exchange);
    case Dhcp6Type.REQUEST:
    case Dhcp6Type.RENEW:
    case Dhcp6Type.REBIND:
      return answer('reply', exchange, grant(exchange));
    case Dhcp6Type.CONFIRM:
      return answerConfirm(exchange);
    case Dhcp6Type.INFORMATION_REQUEST:
      return associations.length > 0
        ? { kind: 'malformed' }
        : answer('reply', exchange, nameService(exchange));
    case Dhcp6Type.RELEASE:
    case Dhcp6Type.DECLINE:
      // The client repeats itself until it hears from us, which would hold up the guest's way down.
      return answer('reply', exchange, [statusCode(Dhcp6Status.SUCCESS, '')]);
    default:
      return { kind: 'malformed' };
  }
}

/** Who must, may and must not name the server, and themselves: RFC 8415, section 16. */
function addressee(message: Dhcp6Message, v6: Lease6): 'malformed' | 'not-ours' | undefined {
  const server = find(message, Dhcp6Option.SERVER_ID);
  const anonymous = message.type === Dhcp6Type.INFORMATION_REQUEST;
  if (find(message, Dhcp6Option.CLIENT_ID) === undefined && !anonymous) return 'malformed';
  if (server !== undefined && !sameBytes(server, v6.duid)) return 'not-ours';
  const types: readonly number[] = server === undefined ? WITH_SERVER_ONLY : WITHOUT_SERVER_ONLY;
  return types.includes(message.type) ? 'malformed' : undefined;
}

const WITH_SERVER_ONLY = [Dhcp6Type.REQUEST, Dhcp6Type.RENEW, Dhcp6Type.RELEASE, Dhcp6Type.DECLINE];
const WITHOUT_SERVER_ONLY = [Dhcp6Type.SOLICIT, Dhcp6Type.CONFIRM, Dhcp6Type.REBIND];

function answerSolicit(exchange: Exchange): FrameAnswer {
  if (find(exchange.message, Dhcp6Option.RAPID_COMMIT) !== undefined) {
    const committed = { code: Dhcp6Option.RAPID_COMMIT, bytes: new Uint8Array() };
    return answer('reply', exchange, [committed, ...grant(exchange)]);
  }
  // The highest preference there is: the client need not wait for advertisements of others.
  const preference = { code: Dhcp6Option.PREFERENCE, bytes: Uint8Array.of(255) };
  return answer('advertise', exchange, [preference, ...grant(exchange)]);
}

// Without an address to confirm there must be no answer (RFC 8415, section 18.3.3).
function answerConfirm(exchange: Exchange): FrameAnswer {
  const theirs = exchange.associations.flatMap(({ addresses }) => addresses);
  if (theirs.length === 0) return { kind: 'malformed' };
  const right = theirs.every((address) => exchange.v6.addresses.some((ours) => sameBytes(ours, address)));
  const status = right
    ? statusCode(Dhcp6Status.SUCCESS, '')
    : statusCode(Dhcp6Status.NOT_ON_LINK, 'this VM has another address');
  return answer('reply', exchange, [status]);
}

/** Everything that the client is to have. */
function grant(exchange: Exchange): Dhcp6OptionBytes[] {
  return [...grantAssociations(exchange.associations, exchange.v6.addresses), ...nameService(exchange)];
}

/** RFC 3646. Half of the smallest packet is enough for any sound list of domains, and leaves the rest its room. */
function nameService({ lease, v6 }: Exchange): Dhcp6OptionBytes[] {
  const servers = { code: Dhcp6Option.DNS_SERVERS, bytes: Buffer.concat(v6.nameservers) };
  const domains = {
    code: Dhcp6Option.DOMAIN_LIST,
    bytes: encodeFittingDomainNames(lease.search, 'plain', 640),
  };
  return [servers, domains].filter(({ bytes }) => bytes.length > 0);
}

function answer(
  kind: 'advertise' | 'reply',
  { lease, v6, packet, message }: Exchange,
  options: readonly Dhcp6OptionBytes[],
): FrameAnswer {
  const client = find(message, Dhcp6Option.CLIENT_ID);
  const payload = encodeDhcp6({
    type: kind === 'advertise' ? Dhcp6Type.ADVERTISE : Dhcp6Type.REPLY,
    transactionId: message.transactionId,
    options: [
      ...(client === undefined ? [] : [{ code: Dhcp6Option.CLIENT_ID, bytes: client }]),
      { code: Dhcp6Option.SERVER_ID, bytes: v6.duid },
      ...options,
    ],
  });
  const path = {
    sourceMac: lease.serverMac,
    destinationMac: lease.mac,
    source: v6.serverAddress,
    destination: packet.source,
  };
  return { kind, frame: encodeUdpFrame(path, DHCP6_SERVER_PORT, DHCP6_CLIENT_PORT, payload) };
}

function find(message: Dhcp6Message, code: number): Uint8Array | undefined {
  return message.options.find((option) => option.code === code)?.bytes;
}
