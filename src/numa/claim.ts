/** What a VM takes of one memory node. `vcpus` has fractions where a VM runs anywhere and counts on every node. */
export interface Share {
  readonly node: number;
  readonly vcpus: number;
  readonly memoryBytes: number;
}

/** Everything a VM takes of the node's memory nodes and CPUs: what the ledger keeps. */
export interface Claim {
  readonly shares: readonly Share[];
  /** Size of the huge pages its RAM is made of; 0 for ordinary memory. */
  readonly pageBytes: number;
  /** CPUs that no other dedicated VM may have: whole cores, ascending. Empty for VMs that share. */
  readonly dedicated: readonly number[];
}

/** RAM that a claim stands for, in bytes. */
export function claimedBytes({ shares }: Claim): number {
  return Math.round(shares.reduce((sum, share) => sum + share.memoryBytes, 0));
}

/** What claims take together. */
export interface Usage {
  /** vCPUs of VMs that share their CPUs. */
  vcpus(node: number): number;
  /** Bytes of RAM in pages of this size, 0 for ordinary memory. */
  memoryBytes(node: number, pageBytes: number): number;
  readonly dedicated: ReadonlySet<number>;
}

export function usageOf(claims: readonly Claim[]): Usage {
  const sum = (of: readonly Claim[], node: number, key: 'vcpus' | 'memoryBytes'): number =>
    of
      .flatMap(({ shares }) => shares)
      .filter((share) => share.node === node)
      .reduce((total, share) => total + share[key], 0);
  const sharing = claims.filter(({ dedicated }) => dedicated.length === 0);
  return {
    vcpus: (node) => sum(sharing, node, 'vcpus'),
    memoryBytes: (node, pageBytes) =>
      sum(
        claims.filter((claim) => claim.pageBytes === pageBytes),
        node,
        'memoryBytes',
      ),
    dedicated: new Set(claims.flatMap(({ dedicated }) => dedicated)),
  };
}
