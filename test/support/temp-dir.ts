import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What of a tap test the helpers of this folder need. */
export interface Teardown {
  teardown(undo: () => unknown): void;
}

/** A fresh, empty directory with a short path (sockets fit in), removed with everything in it when `t` ends. */
export function tempDir(t: Teardown): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'vmshim-')));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
