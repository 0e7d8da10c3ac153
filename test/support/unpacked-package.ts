import { execFileSync, type ExecFileSyncOptions } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const caches = join(import.meta.dirname, '../../.cache');

/**
 * The root directory of a package of the machine's Debian release: unpacked, since what configures machines would take this
 * one for its own if it were installed. Kept in `.cache`; the first time needs Debian's mirror.
 */
export function unpackedPackage(name: string): string {
  const cache = join(caches, name);
  if (existsSync(cache)) return cache;
  mkdirSync(caches, { recursive: true });
  const work = mkdtempSync(`${cache}-`);
  try {
    const quiet: ExecFileSyncOptions = { cwd: work, stdio: ['ignore', 'ignore', 'inherit'] };
    execFileSync('apt-get', ['-qq', '-o', 'APT::Sandbox::User=root', 'download', name], quiet);
    execFileSync('sh', ['-c', 'dpkg -x ./*.deb tree'], quiet);
    if (!existsSync(cache)) renameSync(join(work, 'tree'), cache);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return cache;
}
