import type { PortForward } from './vm-spec.ts';

const FORWARD = /^(tcp|udp):([\d.]*):(\d{1,5}):(\d{1,5})$/;
const ALL_ADDRESSES = '0.0.0.0';

/**
 * Reads `protocol:[hostAddress]:hostPort:guestPort`, comma-separated. The address is IPv4, as QEMU's user network wants
 * it; without one the port is open on all addresses of the host. Undefined for anything else, and where two entries
 * want the same port of the host.
 */
export function parsePortForwards(text: string): readonly PortForward[] | undefined {
  const forwards = text.split(',').map((entry) => parseForward(entry.trim()));
  if (!forwards.every((forward) => forward !== undefined)) return undefined;
  const clash = forwards.some((a, i) => forwards.slice(i + 1).some((b) => collide(a, b)));
  return clash ? undefined : forwards;
}

function parseForward(entry: string): PortForward | undefined {
  const [, protocol, address = '', hostPort, guestPort] = FORWARD.exec(entry) ?? [];
  if (protocol !== 'tcp' && protocol !== 'udp') return undefined;
  const forward = {
    protocol,
    hostAddress: address === '' ? ALL_ADDRESSES : address,
    hostPort: Number(hostPort),
    guestPort: Number(guestPort),
  } as const;
  const valid = isIpv4(forward.hostAddress) && isPort(forward.hostPort) && isPort(forward.guestPort);
  return valid ? forward : undefined;
}

function collide(a: PortForward, b: PortForward): boolean {
  if (a.protocol !== b.protocol || a.hostPort !== b.hostPort) return false;
  return [a.hostAddress, b.hostAddress].includes(ALL_ADDRESSES) || a.hostAddress === b.hostAddress;
}

function isIpv4(text: string): boolean {
  const parts = text.split('.');
  return parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
}

function isPort(port: number): boolean {
  return port >= 1 && port <= 65_535;
}
