import { VmError } from '../core/errors.ts';

/** An answer that QEMU's schema of a command does not allow. @param of what was asked for, where the command has many answers. */
export function oddReply(command: string, reply: unknown, of = ''): VmError {
  const asked = of === '' ? `"${command}"` : `"${command}" of ${of}`;
  return new VmError(
    'Internal',
    `QEMU answered QMP command ${asked} with ${JSON.stringify(reply).slice(0, 200)}`,
  );
}
