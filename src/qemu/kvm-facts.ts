import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';

/** What a host tells about its KVM, without starting anything. */
export interface KvmFacts {
  readonly cpu: CpuVirtualization;
  /** The KVM module that drives the CPU, as /sys/module shows it; several where one is built in but idle. */
  readonly modules: readonly KvmModule[];
  readonly device: KvmDevice;
}

/** `none`: an x86 CPU that has, or shows, no virtualization; `other`: not an x86 CPU. */
export type CpuVirtualization = 'vmx' | 'svm' | 'none' | 'other';

/** `kvm_pvm` is KVM on a CPU without virtualization: it takes guests only with a kernel made for it. */
export type KvmModule = 'kvm_intel' | 'kvm_amd' | 'kvm_pvm';

export type KvmDevice =
  | { readonly kind: 'absent' }
  /** Even root cannot open it: a device cgroup, a container without it, a driver that gave up. */
  | { readonly kind: 'closed'; readonly why: string }
  | {
      readonly kind: 'open';
      /** Who besides root may open it read-write. */
      readonly access: 'everyone' | 'group' | 'owner';
      readonly gid: number;
    };

const kvmModules: readonly KvmModule[] = ['kvm_intel', 'kvm_amd', 'kvm_pvm'];

/** The flags line of the first CPU ends within 4 KiB today; a CPU that has none by here has none. */
const maxCpuinfoBytes = 64 * 1024;

/** Reads the facts below `root` (`/` on a real host). */
export async function readKvmFacts(host: Host, root: string, signal?: AbortSignal): Promise<KvmFacts> {
  return {
    cpu: readCpuVirtualization(host, `${root}/proc/cpuinfo`),
    modules: liveKvmModules(host, root),
    device: await probeKvmDevice(host, `${root}/dev/kvm`, signal),
  };
}

export function liveKvmModules(host: Host, root: string): KvmModule[] {
  return kvmModules.filter((name) => host.inspect(`${root}/sys/module/${name}`) !== undefined);
}

/**
 * By the first `flags` line (proc(5)). Only the beginning is read: the kernel writes a KiB and more for every CPU and
 * some kernels interrupt each one for its frequency.
 */
function readCpuVirtualization(host: Host, path: string): CpuVirtualization {
  using file = host.open(path, openFlags.O_RDONLY);
  let text = '';
  while (text.length < maxCpuinfoBytes) {
    const bytes = host.readBytes(file.fd, text.length, 4096);
    text += bytes.toString('latin1');
    // `vmx flags` is a line of its own on Intel, hence the anchor.
    const flags = /^flags[ \t]*:(.*)\n/m.exec(text)?.[1]?.split(' ');
    if (flags !== undefined) {
      if (flags.includes('vmx')) return 'vmx';
      return flags.includes('svm') ? 'svm' : 'none';
    }
    // An empty line ends the first CPU.
    if (bytes.length === 0 || text.includes('\n\n')) break;
  }
  return 'other';
}

async function probeKvmDevice(host: Host, path: string, signal?: AbortSignal): Promise<KvmDevice> {
  const info = host.inspect(path);
  if (info === undefined) return { kind: 'absent' };
  try {
    host.open(path, openFlags.O_RDWR)[Symbol.dispose]();
  } catch (error) {
    return { kind: 'closed', why: VmError.from(error).message };
  }
  const { stdout } = await host.exec(
    'stat',
    ['-c', '%g', '--', path],
    signal === undefined ? {} : { signal },
  );
  const access = allows(info.mode, 0) ? 'everyone' : allows(info.mode, 3) ? 'group' : 'owner';
  return { kind: 'open', access, gid: Number(stdout.trim()) };
}

/** Read and write for others (shift 0) or the group (shift 3). */
function allows(mode: number, shift: number): boolean {
  return ((mode >> shift) & 0o6) === 0o6;
}
