const POWERS_OF_1024 = ['Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
const POWERS_OF_1000 = ['k', 'M', 'G', 'T', 'P', 'E'];

export const MIB = 1 << 20;

/**
 * Reads a Kubernetes resource quantity (apimachinery, `resource.Quantity`) as a whole number, rounded up as Kubernetes
 * does: `512Mi`, `1.5Gi`, `2G`, `1e9`, `128974848000m`, `536870912`. Undefined for anything else, for negative amounts
 * and for those beyond what a number holds exactly.
 */
export function parseQuantity(text: string): number | undefined {
  const match = /^(\d{1,30})(?:\.(\d{0,30}))?(m|[KMGTPE]i|[kMGTPE]|[eE][+-]?\d{1,2})?$/.exec(text);
  if (match === null) return undefined;
  const [, whole = '', fraction = '', suffix = ''] = match;
  const exponent = decimalExponent(suffix) - fraction.length;
  const binary = 1024n ** BigInt(POWERS_OF_1024.indexOf(suffix) + 1);
  const scaled = BigInt(whole + fraction) * binary * 10n ** BigInt(Math.max(exponent, 0));
  const divisor = 10n ** BigInt(Math.max(-exponent, 0));
  const amount = Number((scaled + divisor - 1n) / divisor);
  return Number.isSafeInteger(amount) ? amount : undefined;
}

/** The shortest exact way to write an amount of bytes: `512Mi`, `1Gi`, `1000`. */
export function formatBytes(bytes: number): string {
  for (let power = POWERS_OF_1024.length; power > 0; power--) {
    const unit = 1024 ** power;
    if (bytes >= unit && bytes % unit === 0) return `${bytes / unit}${POWERS_OF_1024[power - 1] ?? ''}`;
  }
  return String(bytes);
}

function decimalExponent(suffix: string): number {
  if (suffix === 'm') return -3;
  if (/^[eE][+-]?\d/.test(suffix)) return Number(suffix.slice(1));
  return 3 * (POWERS_OF_1000.indexOf(suffix) + 1);
}
