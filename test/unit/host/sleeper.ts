import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Teardown } from '../../support/temp-dir.ts';

export interface Sleeper {
  readonly pid: number;
  /** The signal that ended it. */
  readonly exited: Promise<NodeJS.Signals | null>;
}

/** A process that does nothing until it is killed, which is at the end of `t` at the latest. */
export function startSleeper(t: Teardown, file = '/bin/sleep'): Sleeper {
  const child = spawn(file, ['100000'], { stdio: 'ignore' });
  const exited = once(child, 'exit').then(([, signal]) => signal as NodeJS.Signals | null);
  t.teardown(() => {
    child.kill('SIGKILL');
    return exited;
  });
  if (child.pid === undefined) throw new Error(`${file} cannot be started`);
  return { pid: child.pid, exited };
}
