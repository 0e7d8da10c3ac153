import { chmodSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { errnoName, withErrno } from './linux-errno.ts';

/**
 * Creates a directory and its missing parents, all with exactly this mode; existing ones stay as they are. Node's own
 * `recursive` will not do: it calls a read-only file system a missing directory, and below /proc it never returns.
 */
export function makeDir(path: string, mode: number): void {
  withErrno(`make the directory ${path}`, () => make(path, mode));
}

function make(path: string, mode: number): void {
  try {
    makeOne(path, mode);
  } catch (error) {
    const parent = dirname(path);
    if (errnoName(error) !== 'ENOENT' || parent === path) throw error;
    // Where the parent is there, somebody else has made it meanwhile, or nothing can be made in it, as in /proc.
    if (!isDirectory(parent)) make(parent, mode);
    makeOne(path, mode);
  }
}

function makeOne(path: string, mode: number): void {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if (errnoName(error) === 'EEXIST' && isDirectory(path)) return;
    throw error;
  }
  // mkdir(2) takes the umask off.
  chmodSync(path, mode);
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
