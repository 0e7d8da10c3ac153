import type { GuestDns } from '../guest-network.ts';
import { canonicalIp } from './ip-address.ts';
import type { JsonField } from './json-field.ts';

/** `dns` of configurations and results (CNI specification, "Plugin configuration objects"). */
export interface CniDns {
  readonly nameservers: readonly string[];
  readonly domain: string | undefined;
  readonly search: readonly string[];
  readonly options: readonly string[];
}

export const NO_DNS: CniDns = { nameservers: [], domain: undefined, search: [], options: [] };

export function parseDns(field: JsonField): CniDns {
  return {
    nameservers: addresses(field.at('nameservers')),
    domain: field.at('domain').text() || undefined,
    search: texts(field.at('search')),
    options: texts(field.at('options')),
  };
}

/**
 * What a runtime with the capability `dns` tells of the pod's own (CNI conventions, "Well-known Capabilities"): containerd has it from kubelet.
 */
export function parseRuntimeDns(field: JsonField): CniDns {
  return {
    nameservers: addresses(field.atEither('servers')),
    domain: undefined,
    search: texts(field.atEither('searches')),
    options: texts(field.atEither('options')),
  };
}

/** The first that says anything. */
export function firstDns(...candidates: readonly CniDns[]): CniDns {
  const says = ({ nameservers, domain, search, options }: CniDns): boolean =>
    domain !== undefined || nameservers.length + search.length + options.length > 0;
  return candidates.find(says) ?? NO_DNS;
}

/** resolv.conf(5): a domain is a search list of one. */
export function guestDns({ nameservers, domain, search, options }: CniDns): GuestDns {
  return {
    nameservers,
    search: domain === undefined || search.includes(domain) ? search : [domain, ...search],
    ...(options.length > 0 && { options }),
  };
}

function addresses(field: JsonField): string[] {
  return field.list().map((entry) => entry.requiredText('an IP address', canonicalIp));
}

function texts(field: JsonField): string[] {
  return field
    .list()
    .map((entry) => entry.requiredText('a string that is not empty', (text) => text || undefined));
}
