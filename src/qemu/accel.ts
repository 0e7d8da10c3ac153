import { VmError } from '../core/errors.ts';
import type { AccelChoice } from '../core/vm-spec.ts';
import type { Host } from '../host/host.ts';
import { type KvmFacts, liveKvmModules, readKvmFacts } from './kvm-facts.ts';
import { isJsonObject } from './qmp-codec.ts';

export interface AccelVerdict {
  readonly accel: 'kvm' | 'tcg';
  /** One sentence for people, with the remedy where there is one. */
  readonly reason: string;
  /** The user should be told: it is slower, or riskier, than what they may expect. */
  readonly warn: boolean;
  /** The group QEMU must run with to open /dev/kvm; undefined where everybody or only root may, and for TCG. */
  readonly kvmGid: number | undefined;
}

export interface AccelDeps {
  /** Directory of the cache file `accel.json`; it must exist. */
  readonly stateDir: string;
  /** What stands for `/` in tests. */
  readonly root?: string;
  readonly signal?: AbortSignal;
}

/**
 * Decides how the guest's CPU runs. `tcg` looks at nothing. `auto` takes KVM where it surely runs an ordinary kernel
 * for an unprivileged QEMU, else TCG, and says why. `kvm` takes KVM wherever /dev/kvm opens, warning where it will
 * hardly do, else throws FailedPrecondition. What was found is kept in `accel.json` for the boot.
 */
export async function detectAccel(host: Host, choice: AccelChoice, deps: AccelDeps): Promise<AccelVerdict> {
  if (choice === 'tcg') return tcg('TCG emulation was asked for by accel "tcg"', false);
  const facts = await cachedKvmFacts(host, deps);
  const obstacle = kvmObstacle(facts);
  if (obstacle === undefined) {
    return { accel: 'kvm', reason: 'KVM works on this host', warn: false, kvmGid: kvmGid(facts) };
  }
  if (choice === 'auto') return tcg(`using TCG emulation because ${obstacle}`, true);
  if (facts.device.kind !== 'open') {
    throw new VmError(
      'FailedPrecondition',
      `accel "kvm" cannot be used: ${obstacle}, or set accel to "auto"`,
    );
  }
  return {
    accel: 'kvm',
    reason: `using KVM because accel "kvm" insists, though ${obstacle}`,
    warn: true,
    kvmGid: kvmGid(facts),
  };
}

/** Why KVM does not serve a VM here, with the remedy; undefined where it does. Pure. */
export function kvmObstacle(facts: KvmFacts): string | undefined {
  const { cpu, modules, device } = facts;
  if (cpu === 'other') return 'the host CPU is not x86: use an x86-64 node';
  if (modules.includes('kvm_pvm')) {
    return 'its KVM is the kvm_pvm module, which runs no ordinary guest kernel: use a node with nested virtualization, or a physical one';
  }
  if (cpu === 'none') {
    return 'the host CPU shows neither vmx nor svm: switch virtualization on in the firmware, or nested virtualization on in the hypervisor of this node';
  }
  const module = cpu === 'vmx' ? 'kvm_intel' : 'kvm_amd';
  if (!modules.includes(module)) return `module ${module} is not loaded: run "modprobe ${module}"`;
  switch (device.kind) {
    case 'absent':
      return `/dev/kvm does not exist: run "modprobe ${module}" and see "dmesg" for what the module says`;
    case 'closed':
      return `/dev/kvm does not open (${device.why}): allow the device to this process`;
    case 'open':
      if (device.access !== 'everyone' && kvmGid(facts) === undefined) {
        return '/dev/kvm opens for root only and QEMU runs unprivileged: run "chgrp kvm /dev/kvm" and "chmod 660 /dev/kvm"';
      }
      return undefined;
  }
}

/** Raised when `KvmFacts` changes. */
const cacheFormat = '1';

function kvmGid({ device }: KvmFacts): number | undefined {
  // Never root's group: it opens more than /dev/kvm.
  return device.kind === 'open' && device.access === 'group' && device.gid !== 0 ? device.gid : undefined;
}

function tcg(reason: string, warn: boolean): AccelVerdict {
  return { accel: 'tcg', reason, warn, kvmGid: undefined };
}

/**
 * The facts of this boot. The key also holds what an administrator can change without a boot and we can see at no
 * cost, so that following a remedy takes effect at the next VM. (A chgrp from one group to another is not seen.)
 */
async function cachedKvmFacts(host: Host, { stateDir, root = '', signal }: AccelDeps): Promise<KvmFacts> {
  const path = `${stateDir}/accel.json`;
  const device = host.inspect(`${root}/dev/kvm`);
  const key = [
    cacheFormat,
    host.readText(`${root}/proc/sys/kernel/random/boot_id`).trim(),
    ...liveKvmModules(host, root),
    device === undefined ? 'no device' : `${device.uid}:${device.mode.toString(8)}:${device.mtimeMs}`,
  ].join(' ');
  const kept = readCache(host, path);
  if (kept?.key === key) return kept.facts;
  const facts = await readKvmFacts(host, root, signal);
  if (isSettled(facts)) host.replaceFile(path, `${JSON.stringify({ key, facts })}\n`, 0o644);
  return facts;
}

/** False for a device that root's next chgrp may open to QEMU, and one that may open to another process. */
function isSettled(facts: KvmFacts): boolean {
  const { device } = facts;
  if (device.kind === 'open') return device.access === 'everyone' || kvmGid(facts) !== undefined;
  return device.kind === 'absent';
}

/** Undefined where there is none or somebody damaged it: it is only a cache. */
function readCache(host: Host, path: string): { key: string; facts: KvmFacts } | undefined {
  try {
    const value: unknown = JSON.parse(host.readText(path));
    if (!isJsonObject(value) || typeof value['key'] !== 'string' || !isJsonObject(value['facts']))
      return undefined;
    return value as { key: string; facts: KvmFacts };
  } catch {
    return undefined;
  }
}
