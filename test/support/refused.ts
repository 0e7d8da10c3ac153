import type { Test } from 'tap';
import type { ErrorKind } from '../../src/core/errors.ts';

/** Asserts that a call fails with this kind of error and, where given, a message that says so. */
export async function refused(
  t: Test,
  call: Promise<unknown>,
  kind: ErrorKind,
  message: RegExp = /./,
  name = `${kind} ${message.source}`,
): Promise<void> {
  await t.rejects(call, { name: 'VmError', kind, message }, name);
}
