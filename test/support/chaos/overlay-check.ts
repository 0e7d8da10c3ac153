import { execa } from 'execa';
import type { NodeNetwork } from '../cri-node-network.ts';

/** What `qemu-img check` found in an image that nobody has open. */
export interface OverlayCheck {
  /** Clusters that hold other data than they should, or could come to; and what could not be checked. */
  readonly errors: number;
  /**
   * Clusters that are counted as in use but belong to nothing. A QEMU that is killed between counting a cluster and using it
   * leaves one; it costs space and no data.
   */
  readonly leaks: number;
}

/** Looks at the overlay alone: its base is not touched. */
export async function checkOverlay({ enter }: NodeNetwork, path: string): Promise<OverlayCheck> {
  const image = { driver: 'qcow2', file: { driver: 'file', filename: path }, backing: null };
  const [file = '', ...entered] = enter;
  const args = [...entered, 'qemu-img', 'check', '--output=json', `json:${JSON.stringify(image)}`];
  // Status 2 is for errors and 3 for leaks, with the figures on stdout; all others come without.
  const { stdout, stderr } = await execa(file, args, { reject: false, stdin: 'ignore' });
  if (!stdout.trimStart().startsWith('{')) throw new Error(`qemu-img check of ${path} failed: ${stderr}`);
  const said = JSON.parse(stdout) as Record<'check-errors' | 'corruptions' | 'leaks', number | undefined>;
  return { errors: (said['check-errors'] ?? 0) + (said.corruptions ?? 0), leaks: said.leaks ?? 0 };
}
