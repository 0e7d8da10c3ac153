import type { NicPlan } from './nic-plan.ts';

/**
 * Whether the cards that a guest has can be those that its pod's network has prepared now. Beside a link that another plugin
 * made they have other addresses with each sandbox, of which a guest can be told.
 */
export function sameCards(running: readonly NicPlan[], wanted: readonly NicPlan[]): boolean {
  const shown = (nics: readonly NicPlan[]): string =>
    JSON.stringify(
      nics.map((nic) => {
        const { mac, mtu, addresses, ifName } = nic.guest;
        const own = nic.kind === 'tap' ? [nic.attachment, mac, addresses] : [];
        return [nic.kind, nic.tap, nic.guarded, ifName, mtu, own];
      }),
    );
  return shown(running) === shown(wanted);
}

/** The cards of a guest that goes on in its pod's new sandbox. */
export function adoptedNics(running: readonly NicPlan[], wanted: readonly NicPlan[]): NicPlan[] {
  return wanted.map((nic, i) => adoptedNic(running[i], nic));
}

function adoptedNic(had: NicPlan | undefined, nic: NicPlan): NicPlan {
  // The shaper is in place; the next boot brings another one.
  if (had?.kind === 'tap' && nic.kind === 'tap') return { ...nic, bandwidth: had.bandwidth };
  if (had?.kind !== 'netns' || nic.kind !== 'netns') return nic;
  const { mac } = had.guest;
  const guest = { ...nic.guest, mac };
  const own = nic.guest.mac;
  // In a sandbox that is still the same one the link has the guest's address by now.
  const linkMac = nic.netns === had.netns ? had.linkMac : own === mac ? undefined : own;
  const booted = had.bootedWith ?? addressesOf(had);
  const bootedWith = booted.join() === addressesOf(nic).join() ? undefined : booted;
  const untold = had.untold === true || JSON.stringify(had.guest) !== JSON.stringify(guest) || undefined;
  return { ...nic, guest, linkMac, bootedWith, untold };
}

/** Of the cards whose guest has booted with other addresses, in words for people. */
export function changedAddresses(nics: readonly NicPlan[]): { card: string; booted: string; now: string }[] {
  return nics.flatMap((nic) =>
    nic.kind === 'netns' && nic.bootedWith !== undefined
      ? [{ card: nic.guest.ifName, booted: nic.bootedWith.join(' '), now: addressesOf(nic).join(' ') }]
      : [],
  );
}

/** A guest that boots asks for its addresses. */
export function atBoot(nic: NicPlan): NicPlan {
  return nic.kind === 'netns' ? { ...nic, bootedWith: undefined, untold: undefined } : nic;
}

/** The guest has seen its link go down and up. */
export function told(nic: NicPlan): NicPlan {
  return nic.kind === 'netns' ? { ...nic, untold: undefined } : nic;
}

/** In CIDR. */
export function addressesOf({ guest }: NicPlan): string[] {
  return guest.addresses.map(({ address, prefixLength }) => `${address}/${prefixLength}`);
}
