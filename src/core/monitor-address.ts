/** Where a Ceph monitor listens. */
export interface MonitorAddress {
  /** A name, an IPv4 address, or an IPv6 address without brackets; in small letters. */
  readonly host: string;
  readonly port: string;
}

/** As ceph.conf's `mon_host` has them: `10.0.0.1:6789`, `[fd00::1]:3300`. Undefined for anything else. */
export function parseMonitorAddress(value: unknown): MonitorAddress | undefined {
  const [, host, port] = /^([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})$/.exec(String(value)) ?? [];
  if (host === undefined || port === undefined || Number(port) < 1 || Number(port) > 65_535) return undefined;
  return { host: host.replace(/^\[|\]$/g, '').toLowerCase(), port: String(Number(port)) };
}

/** A list of at least one. Undefined for anything else. */
export function parseMonitorList(value: unknown): readonly MonitorAddress[] | undefined {
  if (!Array.isArray(value) || value.length === 0) return undefined;
  const monitors = (value as unknown[]).flatMap((item) => parseMonitorAddress(item) ?? []);
  return monitors.length === value.length ? monitors : undefined;
}

export function formatMonitor({ host, port }: MonitorAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
