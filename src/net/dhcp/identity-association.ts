import {
  Dhcp6Option,
  type Dhcp6OptionBytes,
  Dhcp6Status,
  encodeDhcp6Option,
  parseDhcp6Options,
} from './dhcp6-message.ts';
import { sameBytes } from './ip-bytes.ts';
import { FOREVER } from './protocol-numbers.ts';

/** An IA_NA or IA_PD of the client: what it wants addresses or prefixes for, and which it believes to have. */
export interface IdentityAssociation {
  readonly kind: 'addresses' | 'prefixes';
  /** Four bytes that the client chose. */
  readonly id: Uint8Array;
  readonly addresses: readonly Uint8Array[];
}

/** Undefined when one of them is malformed (RFC 8415, sections 21.4, 21.6 and 21.21). */
export function identityAssociations(
  options: readonly Dhcp6OptionBytes[],
): readonly IdentityAssociation[] | undefined {
  const found = options
    .filter(({ code }) => code === Dhcp6Option.IA_NA || code === Dhcp6Option.IA_PD)
    .map(({ code, bytes }) => {
      const inner = bytes.length < 12 ? undefined : parseDhcp6Options(bytes.subarray(12));
      if (inner === undefined) return undefined;
      const addresses = inner
        .filter((option) => option.code === Dhcp6Option.IA_ADDRESS)
        .map((option) => option.bytes);
      if (addresses.some((address) => address.length < 24)) return undefined;
      return {
        kind: code === Dhcp6Option.IA_NA ? ('addresses' as const) : ('prefixes' as const),
        id: bytes.subarray(0, 4),
        addresses: addresses.map((address) => address.subarray(0, 16)),
      };
    });
  return found.every((association) => association !== undefined) ? found : undefined;
}

/**
 * The answer to each: the first that is for addresses gets all of ours for ever, the others the status that there is none.
 * An address that the client believes to have and that is not ours comes back with no time left.
 */
export function grantAssociations(
  associations: readonly IdentityAssociation[],
  addresses: readonly Uint8Array[],
): Dhcp6OptionBytes[] {
  const first = associations.find(({ kind }) => kind === 'addresses');
  return associations.map((association) => {
    const code = association.kind === 'addresses' ? Dhcp6Option.IA_NA : Dhcp6Option.IA_PD;
    const given = association === first ? addresses : [];
    const wrong = association.addresses.filter((theirs) => !given.some((ours) => sameBytes(ours, theirs)));
    const inner = [
      ...given.map((address) => iaAddress(address, FOREVER)),
      ...wrong.map((address) => iaAddress(address, 0)),
      ...(given.length > 0 ? [] : [noneOf(association.kind)]),
    ];
    const times = given.length > 0 ? FOREVER : 0;
    return {
      code,
      bytes: Buffer.concat([association.id, uint32(times), uint32(times), ...inner.map(encodeDhcp6Option)]),
    };
  });
}

/** RFC 8415, section 21.13. */
export function statusCode(status: number, message: string): Dhcp6OptionBytes {
  return {
    code: Dhcp6Option.STATUS_CODE,
    bytes: Buffer.concat([Uint8Array.of(0, status), Buffer.from(message)]),
  };
}

function noneOf(kind: IdentityAssociation['kind']): Dhcp6OptionBytes {
  return kind === 'addresses'
    ? statusCode(Dhcp6Status.NO_ADDRESSES, 'this VM has no further address')
    : statusCode(Dhcp6Status.NO_PREFIXES, 'this VM has no prefix');
}

function iaAddress(address: Uint8Array, lifetime: number): Dhcp6OptionBytes {
  const bytes = Buffer.concat([address, uint32(lifetime), uint32(lifetime)]);
  return { code: Dhcp6Option.IA_ADDRESS, bytes };
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
