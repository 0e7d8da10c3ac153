import { createHash } from 'node:crypto';
import { VmError } from '../core/errors.ts';
import { RECORD_FILE } from './record.ts';

/** Every name a VM uses on the host. A pure function of its identity, so that clean-up can find what a crash left. */
export interface VmNames {
  /** 20 hex digits; the VM's directory name and the mark in QEMU's environment. */
  readonly key: string;
  readonly runDir: string;
  readonly record: string;
  readonly qmpSocket: string;
  readonly consoleSocket: string;
  readonly controlSocket: string;
  /** Where QEMU serves VNC for a VM with a screen. */
  readonly vncSocket: string;
  readonly qemuLog: string;
  /** cgroup used when the OCI spec names none, relative to the hierarchy's root. */
  readonly cgroup: string;
  /** User and group QEMU runs as. */
  readonly uid: number;
}

const SUN_PATH_MAX = 107;
/** Above every account, subordinate range and systemd's container ranges, below its foreign range and below 2^31. */
const UID_BASE = 1_900_000_000;
const UID_RANGE = 200_000_000;

/**
 * Each VM gets a user id of its own, so that a QEMU taken over by its guest can neither signal, trace nor read the
 * memory of another one. The state directory is part of the identity, since two containerds of one node (each with its
 * own) may use the same id.
 */
export function vmNames(stateDir: string, namespace: string, id: string): VmNames {
  const digest = createHash('sha256').update(`${stateDir}\0${namespace}\0${id}`).digest();
  const key = digest.toString('hex').slice(0, 20);
  const runDir = `${stateDir}/${key}`;
  const names: VmNames = {
    key,
    runDir,
    record: `${runDir}/${RECORD_FILE}`,
    qmpSocket: `${runDir}/qmp.sock`,
    consoleSocket: `${runDir}/console.sock`,
    controlSocket: `${runDir}/control.sock`,
    vncSocket: `${runDir}/vnc.sock`,
    qemuLog: `${runDir}/qemu.log`,
    cgroup: `/vmshim/${key}`,
    uid: UID_BASE + (digest.readUInt32BE(16) % UID_RANGE),
  };
  if (Buffer.byteLength(names.controlSocket) > SUN_PATH_MAX) {
    throw new VmError(
      'InvalidArgument',
      `state_dir "${stateDir}" is too long for unix sockets below it; choose one of at most 70 characters`,
    );
  }
  return names;
}
