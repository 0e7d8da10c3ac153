/** What a TAP may and may not do as a port of its bridge; all of it is off where it is not said. */
export interface PortOptions {
  /** The VLAN of untagged frames, 1 to 4094. */
  readonly vlan?: number;
  /** VLANs that pass with their tag. */
  readonly trunk?: readonly VlanRange[];
  /** No frame passes to or from another such port of the bridge. */
  readonly isolated?: boolean;
  /** A frame may go back out of the port it came in by. */
  readonly hairpin?: boolean;
}

/** Both ends included. */
export interface VlanRange {
  readonly minID: number;
  readonly maxID: number;
}

/** Of 802.1Q; 0 and 4095 are not VLANs. */
export const VLAN_IDS = { min: 1, max: 4094 } as const;

export function vlansOf({ trunk = [] }: PortOptions): number[] {
  const all = trunk.flatMap(({ minID, maxID }) =>
    Array.from({ length: maxID - minID + 1 }, (_, i) => minID + i),
  );
  return [...new Set(all)].sort((a, b) => a - b);
}
