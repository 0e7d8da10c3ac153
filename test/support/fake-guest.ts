import { readSync, writeSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { errnoName } from '../../src/host/linux-errno.ts';
import type { Tap } from '../../src/net/tap.ts';
import {
  ARP,
  arp,
  ethernet,
  icmp,
  icmp6Packet,
  ipBytes,
  IPV4,
  ipv4,
  IPV6,
  macText,
  neighbor,
} from './frames.ts';

/** struct virtio_net_hdr, before QEMU asks for another size. */
const VNET_HEADER = 10;

/** Reads and writes raw frames on a TAP's descriptors, which is all a guest can do. */
export class FakeGuest {
  readonly #tap: Tap;

  constructor(tap: Tap) {
    this.#tap = tap;
  }

  send(frame: Uint8Array, header: Uint8Array = Buffer.alloc(VNET_HEADER)): void {
    const [queue] = this.#tap.queues;
    writeSync(queue!.fd, Buffer.concat([header, frame]));
  }

  /** Every frame that is waiting now. */
  received(): Buffer[] {
    return this.receivedWithHeaders().map((bytes) => bytes.subarray(VNET_HEADER));
  }

  /** The same, each after its struct virtio_net_hdr. */
  receivedWithHeaders(): Buffer[] {
    return this.#tap.queues.flatMap(({ fd }) => drain(fd));
  }

  /** Everything that comes before `marker` does, without it. */
  async receivedBefore(marker: Buffer): Promise<Buffer[]> {
    const frames: Buffer[] = [];
    for (;;) {
      frames.push(...this.received());
      const at = frames.findIndex((frame) => frame.equals(marker));
      if (at >= 0) return frames.slice(0, at);
      await turn();
    }
  }

  /** Answers ARP, ND and pings for its addresses until `done` settles; returns what it answered or saw. */
  async answerUntil(done: Promise<unknown>, mac: string, addresses: readonly string[]): Promise<Buffer[]> {
    const state = { over: false };
    const end = (): void => {
      state.over = true;
    };
    done.then(end, end);
    const frames: Buffer[] = [];
    while (!state.over) {
      const now = this.received();
      frames.push(...now);
      for (const frame of now) {
        const reply = answer(frame, mac, addresses);
        if (reply !== undefined) this.send(reply);
      }
      await turn();
    }
    return frames;
  }
}

function drain(fd: number): Buffer[] {
  const frames: Buffer[] = [];
  const buffer = Buffer.alloc(70_000);
  for (;;) {
    try {
      const length = readSync(fd, buffer);
      frames.push(Buffer.from(buffer.subarray(0, length)));
    } catch (error) {
      if (errnoName(error) === 'EAGAIN') return frames;
      throw error;
    }
  }
}

function answer(frame: Buffer, mac: string, addresses: readonly string[]): Buffer | undefined {
  const from = macText(frame.subarray(6, 12));
  const owner = (bytes: Buffer): string | undefined =>
    addresses.find((address) => ipBytes(address).equals(bytes));
  const ipText = (bytes: Buffer): string =>
    bytes.length === 4 ? bytes.join('.') : (bytes.toString('hex').match(/.{4}/g) ?? []).join(':');
  switch (frame.readUInt16BE(12)) {
    case ARP: {
      const asked = owner(frame.subarray(38, 42));
      if (frame.readUInt16BE(20) !== 1 || asked === undefined) return undefined;
      const to = { targetMac: from, targetIp: ipText(frame.subarray(28, 32)) };
      return ethernet(from, mac, ARP, arp({ operation: 2, senderMac: mac, senderIp: asked, ...to }));
    }
    case IPV4: {
      const asked = owner(frame.subarray(30, 34));
      if (frame[23] !== 1 || frame[34] !== 8 || asked === undefined) return undefined;
      const body = frame.subarray(38, 14 + frame.readUInt16BE(16));
      return ethernet(from, mac, IPV4, ipv4(asked, ipText(frame.subarray(26, 30)), 1, icmp(0, body)));
    }
    case IPV6: {
      if (frame[20] !== 58) return undefined;
      const source = ipText(frame.subarray(22, 38));
      if (frame[54] === 135) {
        const asked = owner(frame.subarray(62, 78));
        if (asked === undefined) return undefined;
        return ethernet(
          from,
          mac,
          IPV6,
          icmp6Packet(asked, source, 136, neighbor(0x60000000, asked, 2, mac)),
        );
      }
      const asked = owner(frame.subarray(38, 54));
      if (frame[54] !== 128 || asked === undefined) return undefined;
      const body = frame.subarray(58, 54 + frame.readUInt16BE(18));
      return ethernet(from, mac, IPV6, icmp6Packet(asked, source, 129, body));
    }
    default:
      return undefined;
  }
}
