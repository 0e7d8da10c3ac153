import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import type { Bandwidth, RateLimit } from './bandwidth.ts';
import { runBatch } from './ip-command.ts';
import { checkLinkName } from './link-name.ts';
import { redirectAll } from './tc-mirror.ts';

/** A TAP of the node's namespace and what may pass it. */
export interface Shape {
  readonly tap: string;
  /** Bytes. */
  readonly mtu: number;
  readonly bandwidth: Bandwidth;
  /** What leads the guest's frames through the shaper: tc(8), or the spoof guard, which then must be applied as well. */
  readonly sender: 'tc' | 'guard';
}

/** Seconds for which a frame waits at most before it is dropped. */
const LATENCY = 0.05;
const ETHERNET_HEADER = 18;

/**
 * The link through which what the guest sends passes where that is limited: a queue can only be at the way out of a link, so the
 * frames go out into this one and come back as if the TAP had just received them (ifb, net/sched). Its name is a pure
 * function of the TAP's.
 */
export function shaperName(tap: string): string {
  return `vi${checkLinkName(tap).slice(2)}`;
}

/** Arguments of ip(8). Up, the link has no address of its own and says nothing. */
export function planShaper({ tap, mtu }: Pick<Shape, 'tap' | 'mtu'>): string[][] {
  const name = shaperName(tap);
  return [
    ['link', 'add', 'name', name, 'mtu', String(mtu), 'type', 'ifb'],
    ['link', 'set', 'dev', name, 'addrgenmode', 'none'],
    ['link', 'set', 'dev', name, 'up'],
  ];
}

/** Arguments of tc(8), without the redirect to the shaper. */
export function planQueues({ tap, mtu, bandwidth: { received, sent } }: Shape): string[][] {
  return [
    ...(received === undefined ? [] : [queue(checkLinkName(tap), received, mtu)]),
    ...(sent === undefined ? [] : [queue(shaperName(tap), sent, mtu)]),
  ];
}

function queue(link: string, { bitsPerSecond, burstBytes }: RateLimit, mtu: number): string[] {
  // A bucket smaller than a frame lets none pass.
  const burst = Math.max(burstBytes, mtu + ETHERNET_HEADER);
  const limit = Math.min(burst + Math.ceil((bitsPerSecond / 8) * LATENCY), 2 ** 32 - 1);
  return [
    ...['qdisc', 'replace', 'dev', link, 'root', 'handle', '1:', 'tbf'],
    ...['rate', `${bitsPerSecond}bit`, 'burst', `${burst}b`, 'limit', `${limit}b`],
  ];
}

/**
 * Makes the shaper where what the guest sends is limited. It must be there before the guard that sends frames to it.
 * @throws VmError FailedPrecondition when the node cannot do it.
 */
export async function makeShaper(host: Host, shape: Shape, signal?: AbortSignal): Promise<void> {
  if (shape.bandwidth.sent === undefined) return;
  await explained(shape.tap, runBatch(host, 'ip', undefined, planShaper(shape), signal));
}

/**
 * Limits what passes the TAP from now on.
 * @throws VmError FailedPrecondition when the node cannot do it; closing the TAP and `removeShaper` undo what was done.
 */
export async function applyShape(host: Host, shape: Shape, signal?: AbortSignal): Promise<void> {
  const { tap, bandwidth, sender } = shape;
  const redirects = bandwidth.sent !== undefined && sender === 'tc';
  const done = redirects
    ? redirectAll(host, undefined, { from: tap, to: shaperName(tap) }, planQueues(shape), signal)
    : runBatch(host, 'tc', undefined, planQueues(shape), signal);
  await explained(tap, done);
}

/** The TAP's own queue goes with the TAP; this is the rest. Idempotent. */
export async function removeShaper(host: Host, tap: string, signal?: AbortSignal): Promise<void> {
  try {
    await host.exec('ip', ['link', 'delete', 'dev', shaperName(tap)], signal === undefined ? {} : { signal });
  } catch (error) {
    if (!VmError.is(error, 'Internal') || !error.message.includes('Cannot find device')) throw error;
  }
}

/** What tc(8) says of the queue at the way out of a link: bits per second; undefined where none of ours is. */
export async function readRate(host: Host, link: string, signal?: AbortSignal): Promise<number | undefined> {
  const args = ['-json', 'qdisc', 'show', 'dev', checkLinkName(link), 'root'];
  const { stdout } = await host.exec('tc', args, signal === undefined ? {} : { signal });
  const queues = JSON.parse(stdout) as { kind?: string; options?: { rate?: number } }[];
  const bytes = queues.find(({ kind }) => kind === 'tbf')?.options?.rate;
  return bytes === undefined ? undefined : bytes * 8;
}

async function explained(tap: string, effect: Promise<void>): Promise<void> {
  try {
    await effect;
  } catch (error) {
    if (!VmError.is(error) || !['Internal', 'NotFound'].includes(error.kind)) throw error;
    throw new VmError(
      'FailedPrecondition',
      `the bandwidth of ${tap} cannot be limited (${error.message}); the node needs tc and the kernel modules sch_tbf, ` +
        'ifb and act_mirred, or take the bandwidth annotations from the pod',
      { cause: error },
    );
  }
}
