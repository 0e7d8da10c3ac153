import { type ErrorKind, VmError } from '../core/errors.ts';
import type { Status } from './envelope.ts';

// https://grpc.io/docs/guides/status-codes/; containerd's errdefs uses the same numbers.
const codeOfKind: Readonly<Record<ErrorKind, number>> = {
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

const kindOfCode: ReadonlyMap<number, ErrorKind> = new Map<number, ErrorKind>([
  ...Object.entries(codeOfKind).map(([kind, code]): [number, ErrorKind] => [code, kind as ErrorKind]),
  // Codes that we never send, with the nearest kind: OutOfRange, DataLoss, Unauthenticated.
  [11, 'InvalidArgument'],
  [15, 'Internal'],
  [16, 'PermissionDenied'],
]);

/** Total: whatever a handler threw, as the status that its caller gets. */
export function toStatus(error: unknown): Status {
  const { kind, message } = VmError.from(error);
  return { code: codeOfKind[kind], message };
}

/** The error that a response's status stands for; undefined for success. */
export function fromStatus(status: Status | undefined): VmError | undefined {
  if (status === undefined || status.code === 0) return undefined;
  return new VmError(kindOfCode.get(status.code) ?? 'Unknown', status.message);
}
