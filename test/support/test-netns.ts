import { execFileSync } from 'node:child_process';
import type { Teardown } from './temp-dir.ts';

let made = 0;

/** A network namespace of this test alone, with `lo` up; removed with all links in it when `t` ends. */
export interface TestNetns {
  /** As `ip netns` knows it. */
  readonly name: string;
  readonly path: string;
  /** Runs a command inside, with a /sys of that namespace, and gives its stdout. */
  exec(file: string, ...args: string[]): string;
}

export function testNetns(t: Teardown): TestNetns {
  const name = `vmshim-test-${process.pid}-${made++}`;
  execFileSync('ip', ['netns', 'add', name]);
  t.teardown(() => execFileSync('ip', ['netns', 'delete', name]));
  const exec = (file: string, ...args: string[]): string =>
    execFileSync('ip', ['netns', 'exec', name, file, ...args], { encoding: 'utf8' });
  exec('ip', 'link', 'set', 'lo', 'up');
  return { name, path: `/run/netns/${name}`, exec };
}
