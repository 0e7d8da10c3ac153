import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { VmError } from '../core/errors.ts';

/**
 * Runs a command that has our terminal and our environment until it ends. Signals of the terminal are its business.
 * @returns its exit status, 128 + N after signal N. @throws VmError NotFound when there is no such command.
 */
export async function runInTerminal(file: string, args: readonly string[]): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const ignore = (): void => undefined;
  process.on('SIGINT', ignore);
  const child = spawn(file, args, { stdio: 'inherit' });
  child.once('error', (cause) =>
    reject(new VmError('NotFound', `cannot run ${file}: ${cause.message}; install it`, { cause })),
  );
  child.once('close', (code, signal) =>
    resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
  );
  try {
    return await promise;
  } finally {
    process.off('SIGINT', ignore);
  }
}
