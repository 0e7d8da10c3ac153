import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { errnoName, toVmError } from '../../../src/host/linux-errno.ts';

const failed = (code: string): Error => Object.assign(new Error(`${code}: text`), { code, syscall: 'open' });

void t.test('every errno that host.ts names has its kind, the rest is Internal', (t) => {
  const table = {
    NotFound: ['ENOENT', 'ENOTDIR'],
    AlreadyExists: ['EEXIST'],
    PermissionDenied: ['EACCES', 'EPERM'],
    ResourceExhausted: ['ENOSPC', 'EDQUOT', 'EMFILE', 'ENOMEM', 'ENFILE', 'EAGAIN'],
    FailedPrecondition: ['EBUSY', 'EROFS', 'ENOTEMPTY'],
    Internal: ['EIO', 'EINVAL', 'ELOOP'],
  };
  for (const [kind, codes] of Object.entries(table)) {
    for (const code of codes) {
      const error = toVmError(failed(code), 'read /x');
      t.equal(error.kind, kind, code);
      t.match(error.message, /^cannot read \/x: /);
      t.match(error.message, code);
      t.equal(errnoName(error), code, 'the errno is found through the cause');
    }
  }
  t.end();
});

void t.test('what is no system error keeps its meaning', (t) => {
  const own = new VmError('Aborted', 'mine');
  t.equal(toVmError(own, 'read /x'), own);
  t.match(toVmError('text', 'read /x'), { kind: 'Internal', message: 'cannot read /x: text' });
  t.equal(errnoName(Object.assign(new TypeError('bad'), { code: 'ERR_INVALID_ARG_TYPE' })), undefined);
  t.end();
});
