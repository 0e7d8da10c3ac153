import type { VmOwner } from '../core/vm-spec.ts';
import type { Cgroup } from '../host/cgroup-plan.ts';
import { bootId, readIdentity } from '../host/process-identity.ts';
import { enterDisks } from '../storage/disk-gate.ts';
import type { MachineDeps, MachineRequest } from './machine-request.ts';
import type { VmNames } from './names.ts';
import type { NicPlan } from './nic-plan.ts';
import { makeOwnDirectory } from './own-directory.ts';
import { type PodName, RECORD_FORMAT, type Recorder, type VmRecord, writeRecord } from './record.ts';
import { writeRecordPointer } from './record-pointer.ts';

/** Writes a VM's first record, before anything of it is made. */
export function beginRecord(
  { host, native }: MachineDeps,
  request: MachineRequest,
  names: VmNames,
  cgroup: Cgroup,
  nics: readonly NicPlan[],
): Recorder {
  const { spec, bundle, rootfs, config } = request;
  const shim = readIdentity(host, process.pid);
  let record: VmRecord = {
    format: RECORD_FORMAT,
    id: spec.id,
    namespace: spec.namespace,
    name: spec.name,
    bundle,
    bootId: bootId(host),
    createdAt: Date.now(),
    runDir: names.runDir,
    key: names.key,
    mountPoint: rootfs.mounts.length > 0 ? rootfs.path : undefined,
    cgroup: cgroup.path,
    qemu: undefined,
    shim: shim === undefined ? undefined : { pid: shim.pid, startTime: shim.startTime },
    podUid: spec.owner.kind === 'pod' ? spec.owner.uid : undefined,
    pod: podNameOf(spec.owner),
    rootDisk: undefined,
    progress: undefined,
    disks: [],
    nics,
    numa: undefined,
    logDir: `${config.dataDir}/vms/${names.key}`,
    shimSocket: request.shimSocket,
    exit: undefined,
    survival: undefined,
    orphan: undefined,
    power: undefined,
  };
  // Garbage collection undoes what dead records name: it sees this one before its things are there, or nothing at all.
  using _gate = enterDisks(host, native, config.dataDir);
  // The pointer first: whoever finds none in a bundle knows that nothing was made for it.
  writeRecordPointer(host, bundle, names.record);
  host.makeDir(names.runDir, 0o700);
  writeRecord(host, record);
  makeOwnDirectory(host, { key: 'data_dir', value: config.dataDir }, record.logDir);
  return {
    get record() {
      return record;
    },
    update: (change) => {
      record = { ...record, ...change };
      writeRecord(host, record);
    },
  };
}

/** As records have it. */
export function podNameOf(owner: VmOwner): PodName | undefined {
  return owner.kind === 'pod' ? { namespace: owner.namespace, name: owner.name } : undefined;
}
