import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';

void t.test('a message obeys no terminal and hides nothing, whatever value is in it', (t) => {
  const value = 'a\x1b[2J\x9b1m\x7f\u202eb\u200b\ufeff\r\0';
  t.equal(
    new VmError('InvalidArgument', `name "${value}" is wrong`).message,
    'name "a\\u001b[2J\\u009b1m\\u007f\\u202eb\\u200b\\ufeff\\u000d\\u0000" is wrong',
  );
  t.equal(VmError.from(new Error('a\x9bb')).message, 'a\\u009bb', 'and what others threw');
  t.equal(
    new VmError('Internal', 'ünï\u{1f600}\n\tcode').message,
    'ünï\u{1f600}\n\tcode',
    'what is text stays',
  );
  t.end();
});
