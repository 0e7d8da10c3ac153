/** Guest RAM: in one piece for a guest without NUMA, or in the nodes that it sees. */
export type GuestRam =
  | { readonly kind: 'whole'; readonly host: HostMemory | undefined }
  | {
      readonly kind: 'nodes';
      /** Together the VM's vCPUs, in their order, and its memory. */
      readonly nodes: readonly GuestNode[];
      /** ACPI SLIT from node to node. */
      readonly distances: readonly (readonly number[])[];
    };

export interface GuestNode {
  readonly vcpus: number;
  readonly memoryBytes: number;
  readonly host: HostMemory;
}

/** Memory node of the host that RAM comes from, by mbind(2). Without one the kernel decides. */
export interface HostMemory {
  readonly node: number;
  readonly policy: MemoryPolicy;
}

/**
 * `bind`: from this node or not at all. `preferred`: from elsewhere rather than not at all, for a node that is nearly
 * full, where others than VMs may have taken what the books call free (set_mempolicy(2)).
 */
export type MemoryPolicy = 'bind' | 'preferred';
