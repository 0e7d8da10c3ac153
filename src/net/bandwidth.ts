/** How much a guest may receive and send by one card. What is undefined is as much as the network takes. */
export interface Bandwidth {
  readonly received: RateLimit | undefined;
  readonly sent: RateLimit | undefined;
}

export interface RateLimit {
  readonly bitsPerSecond: number;
  /** What may pass at once after a pause. */
  readonly burstBytes: number;
}

/** For people: what a limit is, or that there is none. */
export function describeBandwidth(bandwidth: Bandwidth | undefined): string {
  const limits = [
    ...(bandwidth?.received === undefined ? [] : [`received ${describeRate(bandwidth.received)}`]),
    ...(bandwidth?.sent === undefined ? [] : [`sent ${describeRate(bandwidth.sent)}`]),
  ];
  return limits.length === 0 ? 'none' : limits.join(', ');
}

function describeRate({ bitsPerSecond }: RateLimit): string {
  return `${bitsPerSecond} bit/s`;
}
