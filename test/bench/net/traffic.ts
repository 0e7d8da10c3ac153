import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

const ECHO_PORT = 7;

export interface Throughput {
  readonly streams: number;
  /** The side that sends. */
  readonly from: 'guest' | 'node';
}

/** What iperf3 says at the end, by iperf3(1) `--json`. */
interface Said {
  readonly error?: string;
  readonly end?: { readonly sum_received?: { readonly bits_per_second: number } };
}

const ATTEMPTS = 20;

/** TCP from or to a guest that runs `net-server`, as seen by who receives, in Mbit/s. */
export async function throughput(
  address: string,
  { streams, from }: Throughput,
  seconds: number,
): Promise<number> {
  const args = ['--client', address, '--json', '--time', String(seconds), '--parallel', String(streams)];
  if (from === 'guest') args.push('--reverse');
  let said: Said = {};
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    said = await iperf3(args);
    const rate = said.end?.sum_received?.bits_per_second;
    if (said.error === undefined && rate !== undefined) return rate / 1e6;
    // Between two tests its server closes its port for a moment.
    await delay(100);
  }
  throw new Error(`iperf3 ${args.join(' ')}: ${said.error ?? 'no sum'}`);
}

async function iperf3(args: readonly string[]): Promise<Said> {
  try {
    return JSON.parse((await promisify(execFile)('iperf3', args, { maxBuffer: 16 << 20 })).stdout) as Said;
  } catch (error) {
    // It ends with status 1 and says why on stdout.
    return JSON.parse((error as { readonly stdout: string }).stdout) as Said;
  }
}

/** Microseconds of `count` requests of one byte and their answers, one after the other on one connection, sorted. */
export async function roundTrips(address: string, count: number): Promise<number[]> {
  const socket = connect(ECHO_PORT, address);
  await once(socket, 'connect');
  socket.setNoDelay();
  const times: number[] = [];
  const answered = Promise.withResolvers<undefined>();
  socket.on('error', (error) => answered.reject(error));
  socket.on('end', () => answered.reject(new Error(`the echo of ${address} ended`)));
  // Both ends get warm with the first tenth.
  const warm = Math.ceil(count / 10);
  let sent = performance.now();
  let left = warm + count;
  socket.on('data', () => {
    const now = performance.now();
    if (left <= count) times.push((now - sent) * 1000);
    if (--left === 0) {
      answered.resolve(undefined);
      return;
    }
    sent = performance.now();
    socket.write('x');
  });
  socket.write('x');
  await answered.promise;
  socket.destroy();
  return times;
}
