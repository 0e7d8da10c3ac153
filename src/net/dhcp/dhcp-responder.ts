import { describeError } from '../../core/errors.ts';
import type { Logger } from '../../core/logger.ts';
import type { Native } from '../../host/native.ts';
import { MAX_FRAME_BYTES, openPacketSocket, type PacketSocket } from '../../host/packet-socket.ts';
import { RESPONDER_MARK } from '../delivery-filter.ts';
import type { GuestInterface } from '../guest-network.ts';
import { answerFrame } from './answer-frame.ts';
import {
  type AnswerKind,
  ANSWER_KINDS,
  type FrameAnswer,
  SILENCE_KINDS,
  type SilenceKind,
} from './frame-answer.ts';
import { parseMac } from './ip-bytes.ts';
import { GatewayLookup } from './gateway-lookup.ts';
import { type GuestLease, planGuestLease } from './guest-lease.ts';
import type { Lease6, Router6 } from './lease6.ts';
import { requestFilter } from './request-filter.ts';
import {
  neighborAdvertisement,
  ROUTER_LIFETIME_SECONDS,
  routerAdvertisement,
} from './router-advertisement.ts';

export interface DhcpResponderOptions {
  /** The VM's TAP. */
  readonly ifName: string;
  /** Path of the network namespace that the TAP is in; ours when absent. */
  readonly netns?: string;
  readonly guest: GuestInterface;
  readonly hostname?: string;
  /** Of the IPv6 gateway, when that has a global address; without it the guest gets no IPv6 default route then. */
  readonly router6?: Router6;
  /** MAC address that a link of the node has now; undefined when it is gone. Needed for a router of kind `node`. */
  readonly readMac?: (ifName: string) => string | undefined;
  /** MAC address of the node's end of the TAP, where that is the guest's IPv4 gateway. */
  readonly nodeMac?: string;
  readonly logger: Logger;
}

/** How often what has happened since the responder was opened. */
export type DhcpCounters = Readonly<
  Record<AnswerKind | SilenceKind | 'gateway-asked' | 'flood' | 'unsent', number>
>;

/** Tells one guest its address by DHCPv4, router advertisements and DHCPv6, for as long as it is open. */
export interface DhcpResponder extends Disposable {
  counters(): DhcpCounters;
  /**
   * Finds out the MAC address of a gateway that stands behind a made-up router, and tells the guest, as if it had asked: its network
   * is another one now. Nothing where no router is made up.
   */
  tellGateway(): void;
  /** Idempotent. */
  close(): void;
}

/** A client needs some ten frames to get all of its addresses. */
const BUDGET = { frames: 50, windowMs: 1000 };

/**
 * Answers on a packet socket on the TAP, in front of bridge, tc and nftables. It has no process and no state that could be
 * lost: one that is opened after a restart goes on where the last one stopped. It does not keep the event loop alive, and
 * wakes it up for the guest's requests and, with an IPv6 default route, every six hours.
 *
 * Whatever the guest sends, at most 50 frames in a second are looked at, one line of each kind is logged, and nothing is
 * kept. Throws InvalidArgument for an interface that makes no sense, NotFound when the TAP is not there.
 */
export function openDhcpResponder(native: Native, options: DhcpResponderOptions): DhcpResponder {
  const lease = planGuestLease(options.guest, {
    ...(options.hostname === undefined ? {} : { hostname: options.hostname }),
    ...(options.router6 === undefined ? {} : { router6: options.router6 }),
    ...(options.nodeMac === undefined ? {} : { nodeMac: options.nodeMac }),
  });
  return new PacketResponder(native, options, lease);
}

class PacketResponder implements DhcpResponder {
  readonly #options: DhcpResponderOptions;
  readonly #lease: GuestLease;
  readonly #socket: PacketSocket;
  readonly #counters = Object.fromEntries(
    [...ANSWER_KINDS, ...SILENCE_KINDS, 'gateway-asked', 'flood', 'unsent'].map((kind) => [kind, 0]),
  ) as Record<keyof DhcpCounters, number>;
  readonly #refresh: NodeJS.Timeout | undefined;
  readonly #gateway: GatewayLookup | undefined;
  /** Who of the guest's addresses asked last for its gateway. */
  #asker: Uint8Array | undefined;

  constructor(native: Native, options: DhcpResponderOptions, lease: GuestLease) {
    this.#options = options;
    this.#lease = lease;
    this.#socket = openPacketSocket(native, {
      ifName: options.ifName,
      ...(options.netns === undefined ? {} : { netns: options.netns }),
      filter: requestFilter(lease, MAX_FRAME_BYTES),
      mark: RESPONDER_MARK,
      budget: BUDGET,
      onFrame: (frame) => this.#answer(answerFrame(lease, frame)),
      onFlood: () => this.#count('flood'),
      onError: (error) =>
        options.logger.error(`DHCP for the guest has stopped: ${error.message}`, this.#fields()),
    });
    this.#gateway = this.#lookup(native, options.router6);
    if (lease.v6?.isDefaultRouter === true) this.#refresh = this.#refreshRouter(lease.v6);
    for (const omission of lease.omissions) options.logger.warn(omission, this.#fields());
  }

  counters(): DhcpCounters {
    return { ...this.#counters };
  }

  tellGateway(): void {
    const { v6 } = this.#lease;
    const [asker] = v6?.addresses ?? [];
    if (v6?.gateway !== undefined && asker !== undefined) this.#askGateway(asker);
  }

  close(): void {
    clearInterval(this.#refresh);
    this.#gateway?.[Symbol.dispose]();
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  // A guest asks for a router once, when its interface comes up, and forgets it after the lifetime of at most 18 hours.
  #refreshRouter(v6: Lease6): NodeJS.Timeout {
    const advertise = (): void =>
      this.#answer({ kind: 'router-advertisement', frame: routerAdvertisement(this.#lease, v6) });
    return setInterval(advertise, (ROUTER_LIFETIME_SECONDS / 3) * 1000).unref();
  }

  #lookup(native: Native, router: Router6 | undefined): GatewayLookup | undefined {
    const { v6 } = this.#lease;
    const [source] = v6?.addresses ?? [];
    if (v6?.gateway === undefined || source === undefined || router?.kind !== 'neighbor') return undefined;
    return new GatewayLookup(native, {
      link: router.link,
      lease: this.#lease,
      gateway: v6.gateway,
      source,
      onAnswer: (mac) => this.#tellGateway(mac),
    });
  }

  #tellGateway(mac: Uint8Array): void {
    const { v6 } = this.#lease;
    if (v6 === undefined || this.#asker === undefined) return;
    this.#answer(neighborAdvertisement(this.#lease, v6, this.#asker, mac));
  }

  #answer(answer: FrameAnswer): void {
    this.#count(answer.kind);
    if (answer.kind === 'gateway-asked') this.#askGateway(answer.asker);
    else if (answer.frame !== undefined && !this.#socket.send(answer.frame)) this.#count('unsent');
  }

  #askGateway(asker: Uint8Array): void {
    const { router6, readMac } = this.#options;
    this.#asker = asker;
    try {
      const mac = router6?.kind === 'node' ? parseMac(readMac?.(router6.ifName) ?? '') : undefined;
      if (mac !== undefined) this.#tellGateway(mac);
      this.#gateway?.ask();
    } catch (error) {
      this.#count('unsent');
      this.#options.logger.debug(
        `the IPv6 gateway cannot be asked for: ${describeError(error)}`,
        this.#fields(),
      );
    }
  }

  #count(kind: keyof DhcpCounters): void {
    this.#counters[kind] += 1;
    if (this.#counters[kind] > 1) return;
    const news = NEWS[kind];
    if (news !== undefined) this.#options.logger[news.level](news.message, this.#fields());
  }

  #fields(): { interface: string; tap: string; mac: string } {
    return { interface: this.#options.guest.ifName, tap: this.#options.ifName, mac: this.#options.guest.mac };
  }
}

/** Logged once each, the first time. */
const NEWS: Partial<Record<keyof DhcpCounters, { level: 'info' | 'warn'; message: string }>> = {
  ack: { level: 'info', message: 'the guest has its IPv4 address by DHCP' },
  reply: { level: 'info', message: 'the guest has an answer by DHCPv6' },
  nak: { level: 'warn', message: 'the guest asked for another IPv4 address than the pod’s and was told no' },
  declined: {
    level: 'warn',
    message: 'the guest says that somebody else on its network uses the pod’s IPv4 address',
  },
  flood: { level: 'warn', message: 'the guest sends more DHCP requests than are looked at' },
  unsent: { level: 'warn', message: 'an answer by DHCP could not be sent to the guest' },
};
