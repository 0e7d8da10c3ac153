import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { tempDir, type Teardown } from '../../../support/temp-dir.ts';

/** A root file system of an image, with an empty `/disk`. */
export function tempRootfs(t: Teardown): string {
  const rootfs = tempDir(t);
  mkdirSync(join(rootfs, 'disk'));
  return rootfs;
}
