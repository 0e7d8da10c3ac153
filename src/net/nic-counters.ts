import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { inNetworkNamespace } from '../host/network-namespace.ts';
import type { Netns } from './ip-command.ts';

/** What has passed one card of a guest since its VM started, seen from the guest. */
export interface NicCounters {
  /** The pod's name for it, such as `eth0`. */
  readonly ifName: string;
  readonly received: TrafficCounters;
  readonly sent: TrafficCounters;
}

export interface TrafficCounters {
  readonly bytes: number;
  readonly packets: number;
  readonly errors: number;
  readonly dropped: number;
}

export interface CountedNic {
  readonly tap: string;
  /** Where the TAP is. */
  readonly netns: Netns;
  readonly ifName: string;
}

/** Of the calling thread's network namespace, whoever mounted /sys. */
const TABLE = '/proc/thread-self/net/dev';

/** The kernel's counters of the cards' TAPs; none for a TAP or a namespace that is gone. */
export function readNicCounters(host: Host, native: Native, nics: readonly CountedNic[]): NicCounters[] {
  const tables = new Map<Netns, Map<string, readonly number[]>>();
  return nics.flatMap(({ tap, netns, ifName }) => {
    const table = tables.get(netns) ?? parseTable(readTable(host, native, netns));
    tables.set(netns, table);
    const line = table.get(tap);
    return line === undefined ? [] : [{ ifName, received: traffic(line, 8), sent: traffic(line, 0) }];
  });
}

function readTable(host: Host, native: Native, netns: Netns): string {
  if (netns === undefined) return host.readText(TABLE);
  return host.inspect(netns) === undefined
    ? ''
    : inNetworkNamespace(native, netns, () => host.readText(TABLE));
}

/** proc(5), /proc/net/dev: two lines of headings, then name and 16 numbers; the first 8 are of what the link received. */
function parseTable(text: string): Map<string, readonly number[]> {
  return new Map(
    text.split('\n').flatMap((line) => {
      const colon = line.indexOf(':');
      if (colon < 0) return [];
      return [
        [
          line.slice(0, colon).trim(),
          line
            .slice(colon + 1)
            .trim()
            .split(/\s+/)
            .map(Number),
        ],
      ];
    }),
  );
}

/** What a TAP receives is what its guest has sent. */
function traffic(line: readonly number[], at: number): TrafficCounters {
  const [bytes = 0, packets = 0, errors = 0, dropped = 0] = line.slice(at, at + 4);
  return { bytes, packets, errors, dropped };
}
