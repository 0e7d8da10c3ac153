import { type ErrorKind, VmError } from '../../core/errors.ts';

/** Codes of the CNI specification ("Error"), and ours from 100 on. docs/cni.md lists them. */
export const CNI_CODE = {
  incompatibleVersion: 1,
  unknownContainer: 3,
  environment: 4,
  io: 5,
  decoding: 6,
  config: 7,
  tryAgain: 11,
  unavailable: 50,
  internal: 100,
  ipam: 101,
  attachment: 102,
  handover: 103,
  differs: 104,
} as const;

export type CniCode = (typeof CNI_CODE)[keyof typeof CNI_CODE];

const KINDS: Readonly<Record<CniCode, ErrorKind>> = {
  [CNI_CODE.incompatibleVersion]: 'InvalidArgument',
  [CNI_CODE.unknownContainer]: 'NotFound',
  [CNI_CODE.environment]: 'InvalidArgument',
  [CNI_CODE.io]: 'Internal',
  [CNI_CODE.decoding]: 'InvalidArgument',
  [CNI_CODE.config]: 'InvalidArgument',
  [CNI_CODE.tryAgain]: 'Unavailable',
  [CNI_CODE.unavailable]: 'FailedPrecondition',
  [CNI_CODE.internal]: 'Internal',
  [CNI_CODE.ipam]: 'Unavailable',
  [CNI_CODE.attachment]: 'FailedPrecondition',
  [CNI_CODE.handover]: 'FailedPrecondition',
  [CNI_CODE.differs]: 'FailedPrecondition',
};

/** A failure that the runtime is to know by a certain number. */
export class CniError extends VmError {
  readonly code: CniCode;

  constructor(code: CniCode, message: string, options?: { cause?: unknown }) {
    super(KINDS[code], message, options);
    this.code = code;
  }
}

/** The number of whatever was thrown. */
export function cniCode(error: unknown): CniCode {
  if (error instanceof CniError) return error.code;
  switch (VmError.from(error).kind) {
    case 'Canceled':
    case 'DeadlineExceeded':
    case 'Unavailable':
      return CNI_CODE.tryAgain;
    case 'PermissionDenied':
    case 'ResourceExhausted':
    case 'NotFound':
    case 'AlreadyExists':
      return CNI_CODE.io;
    case 'FailedPrecondition':
      return CNI_CODE.handover;
    case 'InvalidArgument':
    case 'Aborted':
    case 'Unimplemented':
    case 'Internal':
    case 'Unknown':
      return CNI_CODE.internal;
  }
}
