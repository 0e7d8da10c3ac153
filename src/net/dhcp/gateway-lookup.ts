import type { Native } from '../../host/native.ts';
import { openPacketSocket, type PacketSocket } from '../../host/packet-socket.ts';
import { assembleBpf } from './bpf-program.ts';
import type { GuestLease } from './guest-lease.ts';
import { parseGuestPacket } from './guest-packet.ts';
import { sameBytes } from './ip-bytes.ts';
import type { GatewayLink } from './lease6.ts';
import { encodeNeighborQuestion, NOBODY } from './neighbor-question.ts';
import { ETHERTYPE_IPV6, IP_PROTOCOL_ICMPV6, NEIGHBOR_ADVERTISEMENT } from './protocol-numbers.ts';
import { neighborTargetFilter } from './request-filter.ts';

/** As long as a host waits for an answer before it asks again (RetransTimer, RFC 4861, section 10). */
const PATIENCE_MS = 1000;
const MAX_FRAME_BYTES = 128;
const BUDGET = { frames: 10, windowMs: 1000 };
const TARGET_LINK_LAYER_ADDRESS = 2;

/**
 * Asks the network for the MAC address of a guest's IPv6 gateway, as the guest would if it could: router advertisements
 * name link-local addresses only, and of this gateway a global one is known. Nothing is kept: each question of the guest is
 * passed on, so a gateway that moves to another MAC address, or is gone, shows as it would without us. There is a socket
 * only while an answer is awaited.
 */
export class GatewayLookup implements Disposable {
  readonly #native: Native;
  readonly #link: GatewayLink;
  readonly #gateway: Uint8Array;
  readonly #question: Buffer;
  readonly #filter: Uint8Array;
  readonly #onAnswer: (mac: Uint8Array) => void;
  #socket: PacketSocket | undefined;
  #patience: NodeJS.Timeout | undefined;

  constructor(
    native: Native,
    parts: {
      readonly link: GatewayLink;
      readonly lease: GuestLease;
      readonly gateway: Uint8Array;
      /** The source of the question where the link shows the answer to it, see `GatewayLink.asker`. */
      readonly source: Uint8Array;
      readonly onAnswer: (mac: Uint8Array) => void;
    },
  ) {
    this.#native = native;
    this.#link = parts.link;
    this.#gateway = parts.gateway;
    this.#onAnswer = parts.onAnswer;
    this.#question = encodeNeighborQuestion(
      parts.lease.mac,
      parts.gateway,
      parts.link.asker === 'guest' ? parts.source : NOBODY,
    );
    this.#filter = assembleBpf([
      { load: 'vlan-tag-present' },
      { ifEqual: 0, else: 'drop' },
      { load: 'half', at: 12 },
      { ifEqual: ETHERTYPE_IPV6, else: 'drop' },
      { load: 'byte', at: 20 },
      { ifEqual: IP_PROTOCOL_ICMPV6, else: 'drop' },
      { load: 'byte', at: 54 },
      ...neighborTargetFilter(NEIGHBOR_ADVERTISEMENT, parts.gateway),
      { label: 'drop' },
      { return: 0 },
      { label: 'accept' },
      { return: MAX_FRAME_BYTES },
    ]);
  }

  /** @throws VmError when the link is gone. */
  ask(): void {
    this.#socket ??= openPacketSocket(this.#native, {
      ifName: this.#link.ifName,
      ...(this.#link.netns === undefined ? {} : { netns: this.#link.netns }),
      filter: this.#filter,
      budget: BUDGET,
      onFrame: (frame) => this.#read(frame),
      onError: () => this.#stop(),
    });
    clearTimeout(this.#patience);
    this.#patience = setTimeout(() => this.#stop(), PATIENCE_MS).unref();
    this.#socket.send(this.#question);
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  #read(frame: Uint8Array): void {
    const mac = advertisedMac(frame, this.#gateway);
    if (mac === undefined) return;
    this.#stop();
    this.#onAnswer(mac);
  }

  #stop(): void {
    clearTimeout(this.#patience);
    this.#socket?.close();
    this.#socket = undefined;
  }
}

/** What a neighbour advertisement (RFC 4861, sections 4.4 and 7.1.2) says of an address; undefined for anything else. */
function advertisedMac(frame: Uint8Array, target: Uint8Array): Uint8Array | undefined {
  const packet = parseGuestPacket(frame);
  if (packet?.kind !== 'icmpv6' || packet.type !== NEIGHBOR_ADVERTISEMENT) return undefined;
  if (packet.hopLimit !== 255 || packet.code !== 0 || !sameBytes(packet.body.subarray(4, 20), target))
    return undefined;
  const options = packet.body.subarray(20);
  for (let at = 0; at + 8 <= options.length;) {
    const units = options[at + 1] ?? 0;
    if (units === 0) return undefined;
    if (options[at] === TARGET_LINK_LAYER_ADDRESS) return Uint8Array.from(options.subarray(at + 2, at + 8));
    at += units * 8;
  }
  return undefined;
}
