import { VmError } from '../core/errors.ts';
import { canonicalIp, ipFamily } from './cni/ip-address.ts';
import { MADE_UP_ROUTERS } from './dhcp/guest-lease.ts';
import { linkLocalOf, parseIp, parseMac } from './dhcp/ip-bytes.ts';
import type { GuestInterface } from './guest-network.ts';
import type { GuardPoint } from './guard-point.ts';
import { GUARD_PRIORITY, GUARD_REASONS, guardRules } from './guard-rules.ts';

/** What a guest may use. */
export type GuardedGuest = Pick<GuestInterface, 'mac' | 'addresses' | 'routes'>;

/** Lets a guest into the sets, for a table that has our rules; idempotent, counters are kept. */
export function renderGuard(point: GuardPoint, guest: GuardedGuest): string {
  const { table, marker } = guardRules(point.hook);
  const routers = routersOf(guest);
  return lines([
    `flush chain ${table} ${marker}`,
    ...ownElements(point, guest).map((element) => `add element ${table} ${element}`),
    ...(point.trunk ? [`add element ${table} ${trunkElement(point)}`] : []),
    // They are many guests' routers, so they stay when this one goes.
    `add element ${table} reserved6 { ${routers.join(', ')} }`,
    ...(point.hook === 'bridge' ? [] : hookChains(point, table)),
  ]);
}

/** Takes a guest out again. Each element is added first, since deleting what is not there fails. */
export function renderUnguard(point: GuardPoint, guest: GuardedGuest): string {
  const { table } = guardRules(point.hook);
  return lines([
    ...(point.hook === 'bridge' ? [] : dropChains(point.tap, table)),
    ...[...ownElements(point, guest), ...(point.trunk ? [trunkElement(point)] : [])].flatMap((element) => [
      `add element ${table} ${element}`,
      `delete element ${table} ${element}`,
    ]),
  ]);
}

function ownElements({ tap }: GuardPoint, { mac, addresses }: GuardedGuest): string[] {
  const name = `"${tap}"`;
  const all = addresses.map(({ address }) => checkAddress(address));
  const byMac = number(linkLocalOf(checkMac(mac)));
  const ipv4s = all.filter((address) => ipFamily(address) === 4);
  const ipv6s = [...new Set([...all.filter((address) => ipFamily(address) === 6).map(bits), byMac])];
  return [
    `macs { ${name} . ${mac} }`,
    ...(ipv4s.length > 0 ? [`ipv4s { ${ipv4s.map((address) => `${name} . ${address}`).join(', ')} }`] : []),
    `ipv6s { ${ipv6s.map((address) => `${name} . ${address}`).join(', ')} }`,
    `reserved6 { ${byMac} }`,
    ...GUARD_REASONS.map((reason) => `dropped_${reason} { ${name} }`),
    `guests { ${name} }`,
  ];
}

function trunkElement({ tap }: GuardPoint): string {
  return `trunks { "${tap}" }`;
}

/**
 * The TAP's own hook: first what drops, then what sends on. A chain whose TAP is gone goes with it, or, since Linux 6.16,
 * stays and holds for the next TAP of that name; either way it is emptied rather than deleted, which would take 10 ms.
 */
function hookChains({ tap, forwardTo }: GuardPoint, table: string): string[] {
  const [guard, forward] = chainsOf(tap);
  const chain = (name: string, priority: number, rule: string): string[] => [
    `add chain ${table} ${name} { type filter hook ingress device "${tap}" priority ${priority}; policy accept; }`,
    `flush chain ${table} ${name}`,
    `add rule ${table} ${name} ${rule}`,
  ];
  return [
    ...chain(guard, GUARD_PRIORITY, 'goto guest'),
    ...(forwardTo === undefined ? [] : chain(forward, 0, `fwd to "${forwardTo}"`)),
  ];
}

function dropChains(tap: string, table: string): string[] {
  return chainsOf(tap).flatMap((chain) => [`add chain ${table} ${chain}`, `delete chain ${table} ${chain}`]);
}

function chainsOf(tap: string): [guard: string, forward: string] {
  return [`guard_${tap}`, `forward_${tap}`];
}

/** Link-local IPv6 addresses that stand for routers. */
function routersOf({ addresses, routes }: GuardedGuest): string[] {
  const gateways = [...addresses, ...routes].map(({ gateway }) => gateway);
  const routers = gateways
    .filter((address) => address !== undefined)
    .map(checkAddress)
    .filter((address) => /^fe[89ab]/.test(address));
  return [...new Set([...MADE_UP_ROUTERS.map(number), ...routers.map(bits)])];
}

/** An IPv6 address, in canonical text, as the number nft takes for raw bits. */
function bits(address: string): string {
  return number(parseIp(address) ?? new Uint8Array());
}

function number(bytes: Uint8Array): string {
  return `0x${Buffer.from(bytes).toString('hex')}`;
}

function checkAddress(address: string): string {
  const canonical = canonicalIp(address);
  if (canonical !== undefined) return canonical;
  throw new VmError(
    'InvalidArgument',
    `${JSON.stringify(address)} is no IP address the guard could check; use one`,
  );
}

function checkMac(mac: string): Uint8Array {
  const bytes = /[A-F]/.test(mac) ? undefined : parseMac(mac);
  if (bytes !== undefined) return bytes;
  throw new VmError(
    'InvalidArgument',
    `${JSON.stringify(mac)} is no MAC address the guard could check; use six pairs of lower-case hex digits`,
  );
}

function lines(text: readonly string[]): string {
  return `${text.join('\n')}\n`;
}
