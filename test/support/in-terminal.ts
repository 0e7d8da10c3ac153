import { spawn } from 'node:child_process';
import { ExpectText } from './expect-text.ts';

/** A command on a terminal of its own. */
export interface InTerminal {
  /** What the terminal shows. */
  readonly screen: ExpectText;
  press(keys: string): void;
  /** The command's exit status. */
  readonly exited: Promise<number>;
}

/** Runs a command on a pseudo-terminal, by script(1). */
export function inTerminal(command: readonly string[], env: NodeJS.ProcessEnv): InTerminal {
  const child = spawn('/usr/bin/script', ['-qec', command.map(quote).join(' '), '/dev/null'], {
    env: { ...env, TERM: 'xterm', SHELL: '/bin/sh' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)));
  return { screen: new ExpectText(child.stdout), press: (keys) => void child.stdin.write(keys), exited };
}

const quote = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
