import t from 'tap';
import { splitLines } from '../../../src/agent/kube/split-lines.ts';

async function linesOf(chunks: readonly Buffer[], maxBytes = 100): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of splitLines(streamOf(chunks), maxBytes)) lines.push(line);
  return lines;
}

async function* streamOf(chunks: readonly Buffer[]): AsyncGenerator<Buffer, void> {
  await Promise.resolve();
  yield* chunks;
}

void t.test('lines come whole wherever the stream is cut, and what has no end is no line', async (t) => {
  const text = Buffer.from('{"a":1}\n\nümläut\nrest');
  for (let cut = 0; cut <= text.length; cut++) {
    const lines = await linesOf([text.subarray(0, cut), text.subarray(cut)]);
    t.same(lines, ['{"a":1}', '', 'ümläut'], `cut at ${cut}`);
  }
  t.same(await linesOf([...text].map((byte) => Buffer.from([byte]))), ['{"a":1}', '', 'ümläut']);
});

void t.test('a line without end is refused, not kept', async (t) => {
  t.same(await linesOf([Buffer.from('12345\n')], 5), ['12345']);
  await t.rejects(linesOf([Buffer.from('123456\n')], 5), { message: /more than/ });
  await t.rejects(linesOf([Buffer.from('123'), Buffer.from('456')], 5), { message: /more than/ });
});
