import { readFileSync, watch } from 'node:fs';

/** Resolves with the match when a file that only grows, and is there, has a text that matches. */
export async function untilFile(path: string, pattern: RegExp): Promise<RegExpExecArray> {
  const { promise, resolve } = Promise.withResolvers<RegExpExecArray>();
  const look = (): void => {
    const match = pattern.exec(readFileSync(path, 'latin1'));
    if (match !== null) resolve(match);
  };
  const watcher = watch(path, look);
  look();
  try {
    return await promise;
  } finally {
    watcher.close();
  }
}
