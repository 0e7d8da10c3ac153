/**
 * The order of a guest's cards, by the pod's names for them: `eth0`, then `net1`, `net2` … `net10`. Names are what a sandbox
 * that is made anew has in common with the one before, so each card keeps its place.
 */
export function nicOrder(a: string, b: string): number {
  if (a === 'eth0' || b === 'eth0') return a === b ? 0 : a === 'eth0' ? -1 : 1;
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}
