import { execFileSync, type ExecFileSyncOptions } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const cache = join(import.meta.dirname, '../../.cache/cloud-init');

/** The distribution's cloud-init, unpacked and not installed: an installed one would take this machine for its own. */
export function cloudInit(): string {
  if (existsSync(cache)) return cache;
  mkdirSync(join(cache, '..'), { recursive: true });
  const work = mkdtempSync(`${cache}-`);
  try {
    const quiet: ExecFileSyncOptions = { cwd: work, stdio: ['ignore', 'ignore', 'inherit'] };
    execFileSync('apt-get', ['-qq', '-o', 'APT::Sandbox::User=root', 'download', 'cloud-init'], quiet);
    execFileSync('sh', ['-c', 'dpkg -x cloud-init_*.deb tree'], quiet);
    if (!existsSync(cache)) renameSync(join(work, 'tree'), cache);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return cache;
}
