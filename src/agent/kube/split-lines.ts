import { VmError } from '../../core/errors.ts';

const NEWLINE = 10;

/**
 * The lines of a byte stream, without their newlines. What follows the last newline is left out: it is what a broken
 * connection cut off.
 * @throws VmError ResourceExhausted for a line of more than `maxBytes`, and what the stream throws.
 */
export async function* splitLines(
  stream: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<string, void> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      parts.push(chunk.subarray(from, end));
      check(length + end - from, maxBytes);
      yield Buffer.concat(parts).toString('utf8');
      parts = [];
      length = 0;
      from = end + 1;
    }
    const rest = chunk.subarray(from);
    length += rest.length;
    check(length, maxBytes);
    if (rest.length > 0) parts.push(rest);
  }
}

function check(length: number, maxBytes: number): void {
  if (length > maxBytes)
    throw new VmError('ResourceExhausted', `a line of more than ${maxBytes} bytes came from the API server`);
}
