import { fstatSync, readSync, writeSync } from 'node:fs';
import { VmError } from '../core/errors.ts';

const STDIN_MAX = 10 << 20;

/**
 * All of stdin, read without the event loop. A terminal or /dev/null is empty: somebody runs the program by hand.
 * @throws VmError ResourceExhausted above 10 MiB.
 */
export function readStdin(): Buffer {
  let stat: ReturnType<typeof fstatSync>;
  try {
    stat = fstatSync(0);
  } catch {
    return Buffer.alloc(0);
  }
  if (stat.isCharacterDevice()) return Buffer.alloc(0);
  const chunks: Buffer[] = [];
  let total = 0;
  for (;;) {
    const chunk = Buffer.alloc(64 << 10);
    let read: number;
    try {
      read = readSync(0, chunk);
    } catch (cause) {
      throw new VmError('Internal', 'cannot read stdin; containerd gives a pipe or /dev/null', { cause });
    }
    if (read === 0) return Buffer.concat(chunks);
    total += read;
    if (total > STDIN_MAX) throw new VmError('ResourceExhausted', `stdin is larger than ${STDIN_MAX} bytes`);
    chunks.push(chunk.subarray(0, read));
  }
}

/** Writes all bytes to stdout before it returns, so that the process may end at once. */
export function writeStdout(data: string | Uint8Array): void {
  const bytes = Buffer.from(data as Uint8Array);
  for (let at = 0; at < bytes.length;) at += writeSync(1, bytes, at);
}
