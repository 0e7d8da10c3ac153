import type { vmshim } from '#wire';

export type Nic = vmshim.control.v1.Nic.$Properties;
type Count = vmshim.control.v1.Count.$Properties;

/** What `vmctl status` says of a card: its addresses, what the spoof guard dropped, what the guest was told. */
export function describeNic(nic: Nic): [label: string, text: string][] {
  const name = nic.ifName ?? '';
  const servers = nic.nameservers ?? [];
  const booted = nic.bootedWith ?? [];
  return [
    [name, [nic.mac, ...(nic.addresses ?? []), ...(servers.length > 0 ? ['DNS', ...servers] : [])].join(' ')],
    ...(booted.length === 0
      ? []
      : [[`${name} booted`, `with ${booted.join(' ')}; DHCP has the new addresses`] as [string, string]]),
    [`${name} guard`, describeGuard(nic)],
    [`${name} DHCP`, describeCounts(nic.dhcp) || 'the guest has not asked'],
  ];
}

function describeGuard(nic: Nic): string {
  const guard = nic.guard ?? '';
  switch (guard) {
    case 'on':
      return `on, dropped: ${describeCounts(nic.dropped) || 'nothing'}`;
    case 'missing':
      return 'MISSING: somebody emptied the node’s nftables (nft flush ruleset); the next VM that starts here brings it back';
    case 'unknown':
      return `unknown: ${nic.guardProblem ?? ''}`;
    default:
      return guard;
  }
}

function describeCounts(counts: readonly Count[] | null | undefined): string {
  return (counts ?? []).map(({ name, value }) => `${value ?? 0} ${name ?? ''}`).join(', ');
}
