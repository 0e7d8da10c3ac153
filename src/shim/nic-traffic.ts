import type { NicCounters } from '../net/nic-counters.ts';

/** A card's counters as the messages of containerd and of `vmctl` have them. */
export interface NicTraffic {
  readonly name: string;
  readonly rxBytes: number;
  readonly rxPackets: number;
  readonly rxErrors: number;
  readonly rxDropped: number;
  readonly txBytes: number;
  readonly txPackets: number;
  readonly txErrors: number;
  readonly txDropped: number;
}

export function nicTraffic({ ifName, received, sent }: NicCounters): NicTraffic {
  return {
    name: ifName,
    rxBytes: received.bytes,
    rxPackets: received.packets,
    rxErrors: received.errors,
    rxDropped: received.dropped,
    txBytes: sent.bytes,
    txPackets: sent.packets,
    txErrors: sent.errors,
    txDropped: sent.dropped,
  };
}
