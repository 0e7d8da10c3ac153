import t from 'tap';
import { type ErrorKind, VmError } from '../../../src/core/errors.ts';
import { fromStatus, toStatus } from '../../../src/ttrpc/status.ts';

const codes: Record<ErrorKind, number> = {
  Canceled: 1,
  Unknown: 2,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
};

void t.test('every kind has its code and comes back from it', (t) => {
  for (const [kind, code] of Object.entries(codes) as [ErrorKind, number][]) {
    t.same(toStatus(new VmError(kind, 'why')), { code, message: 'why' });
    t.match(fromStatus({ code, message: 'why' }), { kind, message: 'why' });
  }
  t.end();
});

void t.test('whatever is thrown has a status', (t) => {
  t.equal(toStatus(new Error('x')).code, 2);
  t.equal(toStatus(undefined).code, 2);
  t.equal(toStatus(AbortSignal.abort().reason).code, 1);
  t.equal(toStatus(new DOMException('late', 'TimeoutError')).code, 4);
  t.end();
});

void t.test('success is no error, and codes of others have the nearest kind', (t) => {
  t.equal(fromStatus(undefined), undefined);
  t.equal(fromStatus({ code: 0, message: '' }), undefined);
  const others = {
    11: 'InvalidArgument',
    15: 'Internal',
    16: 'PermissionDenied',
    99: 'Unknown',
    [-1]: 'Unknown',
  };
  for (const [code, kind] of Object.entries(others)) {
    t.equal(fromStatus({ code: Number(code), message: '' })?.kind, kind);
  }
  t.end();
});
