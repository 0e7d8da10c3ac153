import { spawnSync } from 'node:child_process';
import { globSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** Files below a directory that contain a text, anywhere and in any encoding that keeps its bytes. */
export function filesWith(text: string, directory: string): string[] {
  const args = ['-rlaF', '--devices=skip', '-e', text, directory];
  const { status, stdout, stderr } = spawnSync('grep', args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  // Status 2 with files that have gone meanwhile is no failure.
  if (status === null || (status > 1 && !/No such file/.test(stderr))) throw new Error(`grep: ${stderr}`);
  return stdout.split('\n').filter((path) => path !== '');
}

/** Whether every user of the machine may read a file: by its mode, and by those of the directories from `top` down to it. */
export function worldReadable(path: string, top: string): boolean {
  if ((statSync(path).mode & 0o004) === 0) return false;
  for (let directory = dirname(path); directory.length > top.length; directory = dirname(directory))
    if ((statSync(directory).mode & 0o001) === 0) return false;
  return true;
}

/** Processes of this machine that have a text among their arguments or in their environment. */
export function processesWith(text: string): string[] {
  return globSync('/proc/[0-9]*/{cmdline,environ}').filter((path) => {
    try {
      return readFileSync(path, 'latin1').includes(text);
    } catch {
      return false;
    }
  });
}
