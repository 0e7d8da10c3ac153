import fc from 'fast-check';
import t from 'tap';
import { ConsoleKeys, type KeyResult } from '../../../src/control/console-keys.ts';

const keys = (): ConsoleKeys => new ConsoleKeys(() => ({ rows: 40, columns: 132 }));
const feed = (target: ConsoleKeys, text: string): KeyResult & { readonly sent: string } => {
  const result = target.feed(Buffer.from(text, 'latin1'));
  return { ...result, sent: Buffer.from(result.send).toString('latin1') };
};

void t.test('what is typed goes through as it is', (t) => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const plain = bytes.filter((byte) => byte !== 0x1d);
      const { send, leave, say } = keys().feed(plain);
      return Buffer.from(send).equals(Buffer.from(plain)) && !leave && say === '';
    }),
  );
  t.end();
});

void t.test('the escape key and its commands', (t) => {
  t.match(feed(keys(), 'ab\x1dqcd'), { sent: 'ab', leave: true, say: '' }, 'nothing after leaving');
  t.match(feed(keys(), '\x1d.'), { sent: '', leave: true });
  t.match(feed(keys(), 'a\x1d\x1db'), { sent: 'a\x1db', leave: false });
  t.match(feed(keys(), '\x1dr'), { sent: 'stty rows 40 cols 132\r', leave: false });
  const sizeless = new ConsoleKeys(() => ({ rows: undefined, columns: undefined }));
  t.match(feed(sizeless, '\x1dr'), { sent: '' }, 'no terminal, no size');
  const help = feed(keys(), 'a\x1d?b');
  t.match(help, { sent: 'ab', leave: false, say: /Ctrl-\] q leave/ });
  t.match(feed(keys(), '\x1dx'), { sent: '', say: help.say }, 'an unknown one is help');
  t.end();
});

void t.test('the escape key may come alone', (t) => {
  const target = keys();
  t.match(feed(target, 'a\x1d'), { sent: 'a', leave: false, say: '' });
  t.match(feed(target, 'q'), { sent: '', leave: true });
  const other = keys();
  for (const part of ['\x1d', '\x1d', '\x1d']) feed(other, part);
  t.match(feed(other, 'q'), { leave: true }, 'the third one escapes again');
  t.end();
});
