import { Samples } from '../samples.ts';
import { type Bench, type Layout, makeNode } from './layouts.ts';
import { startNetGuest } from './net-guest.ts';
import { roundTrips, type Throughput, throughput } from './traffic.ts';

export interface TrafficPlan {
  readonly rounds: number;
  /** Of each iperf3. */
  readonly seconds: number;
  /** TCP connections at a time. */
  readonly streams: readonly number[];
  /** Requests and answers per round. */
  readonly trips: number;
}

/** Of one layout, a value per round. */
export interface Traffic {
  /** Mbit/s by kind. */
  readonly throughput: ReadonlyMap<string, Samples>;
  /** Microseconds. */
  readonly p50: Samples;
  readonly p99: Samples;
}

/**
 * All guests run from the beginning, idle but for the one that is measured, so that the layouts take turns within one
 * round and what else the machine does meets all alike.
 */
export async function measureTraffic(
  bench: Bench,
  layouts: readonly Layout[],
  { rounds, seconds, streams, trips }: TrafficPlan,
): Promise<ReadonlyMap<string, Traffic>> {
  await makeNode(bench);
  const began = performance.now();
  const addresses = new Map<string, string>();
  for (const pair of pairs(layouts)) {
    await Promise.all(
      pair.map(async ({ layout, index }) => {
        const card = await layout.join(bench, index + 2);
        await startNetGuest(bench.scope, bench.lab, card, layout.vcpus);
        addresses.set(layout.name, card.address.replace(/\/.*/, ''));
      }),
    );
  }
  process.stderr.write(
    `${layouts.length} guests run after ${((performance.now() - began) / 1000).toFixed(0)} s\n`,
  );

  const kinds = streams.flatMap((count): Throughput[] => [
    { streams: count, from: 'guest' },
    { streams: count, from: 'node' },
  ]);
  const all = new Map(layouts.map(({ name }) => [name, newTraffic(kinds)]));
  for (let round = 1; round <= rounds; round++) {
    for (const { name } of layouts) {
      const address = addresses.get(name) ?? '';
      const traffic = all.get(name);
      for (const kind of kinds) {
        traffic?.throughput.get(kindName(kind))?.add(await throughput(address, kind, seconds));
      }
      const times = new Samples();
      for (const time of await roundTrips(address, trips)) times.add(time);
      traffic?.p50.add(times.quantile(0.5));
      traffic?.p99.add(times.quantile(0.99));
    }
    process.stderr.write(
      `round ${round} of ${rounds} measured after ${((performance.now() - began) / 1000).toFixed(0)} s\n`,
    );
  }
  return all;
}

function kindName({ streams, from }: Throughput): string {
  return `${from}_${streams}`;
}

function newTraffic(kinds: readonly Throughput[]): Traffic {
  const samples = kinds.map((kind) => [kindName(kind), new Samples()] as const);
  return { throughput: new Map(samples), p50: new Samples(), p99: new Samples() };
}

/** Two guests boot at a time. */
function pairs(layouts: readonly Layout[]): { layout: Layout; index: number }[][] {
  const numbered = layouts.map((layout, index) => ({ layout, index }));
  return Array.from({ length: Math.ceil(numbered.length / 2) }, (_, pair) =>
    numbered.slice(2 * pair, 2 * pair + 2),
  );
}
