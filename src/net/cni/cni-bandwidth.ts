import type { Bandwidth, RateLimit } from '../bandwidth.ts';
import type { JsonField } from './json-field.ts';

/** Kubernetes lets nobody ask for less. */
const MIN_RATE = 1000;
/** Bits per second: what tc(8) takes for certain. */
const MAX_RATE = 1e15;
/** containerd says 2^32-1 bits and CRI-O 2^31-1 for every pod: a pod has no way to say a burst. */
const NO_OPINION = 2 ** 31 - 1;
const MAX_BURST = 2 ** 35;
/** One segment of the largest size that offloads make, twice, so that none has to be cut. */
const MIN_DEFAULT_BURST = 128 * 1024;
/** Seconds. */
const DEFAULT_BURST = 0.1;

/**
 * The capability `bandwidth` (CNI conventions): rates in bits per second, bursts in bits, of which 0 is none. `ingress` is what the
 * pod receives. A burst that is absent, or that runtimes say for want of one, is a tenth of a second's worth: 512 MiB at
 * full speed would be no limit for most of what a pod does.
 * @returns undefined where nothing is limited.
 */
export function parseBandwidth(field: JsonField): Bandwidth | undefined {
  for (const key of ['shapedSubnets', 'unshapedSubnets']) {
    const subnets = field.atEither(key);
    if (subnets.list().length > 0) throw subnets.invalid('empty (vm-tap limits all of a guest’s traffic)');
  }
  const received = parseRate(field.atEither('ingressRate'), field.atEither('ingressBurst'));
  const sent = parseRate(field.atEither('egressRate'), field.atEither('egressBurst'));
  return received === undefined && sent === undefined ? undefined : { received, sent };
}

function parseRate(rate: JsonField, burst: JsonField): RateLimit | undefined {
  const bitsPerSecond = rate.integer(0, MAX_RATE) ?? 0;
  const bits = burst.integer(0, MAX_BURST) ?? 0;
  if (bitsPerSecond === 0) return undefined;
  if (bitsPerSecond < MIN_RATE) throw rate.invalid(`0 for no limit, or at least ${MIN_RATE} bit/s`);
  const asked = bits === 0 || bits >= NO_OPINION ? undefined : Math.ceil(bits / 8);
  const burstBytes = asked ?? Math.max(MIN_DEFAULT_BURST, Math.ceil((bitsPerSecond / 8) * DEFAULT_BURST));
  // The kernel counts whole bytes, and keeps the burst in 32 bits.
  return {
    bitsPerSecond: bitsPerSecond - (bitsPerSecond % 8),
    burstBytes: Math.min(burstBytes, 2 ** 32 - 1),
  };
}
