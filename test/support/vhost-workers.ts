import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * The vhost threads that the kernel runs for a QEMU, by their names in /proc: threads of their own up to Linux 6.3,
 * QEMU's after that.
 */
export function vhostWorkers(qemuPid: number): string[] {
  return globSync(['[0-9]*', `${qemuPid}/task/*`], { cwd: '/proc' }).filter((name) => {
    try {
      return readFileSync(join('/proc', name, 'comm'), 'utf8').trim() === `vhost-${qemuPid}`;
    } catch {
      return false;
    }
  });
}
