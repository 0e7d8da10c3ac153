import type { Host } from '../host/host.ts';
import { isJsonObject } from './qmp-codec.ts';

/** How QEMU does a disk's I/O: by the kernel's ring, by the older kernel interface, or by threads that always work. */
export type DiskAio = 'io_uring' | 'native' | 'threads';

export interface AioDeps {
  /** Absolute path of qemu-img, which is of the same build as QEMU. */
  readonly qemuImg: string;
  /** Directory of the cache file `io-uring.json`; it must exist. */
  readonly stateDir: string;
  /** What stands for `/` in tests. */
  readonly root?: string;
  readonly signal: AbortSignal;
}

/** Before, the kernel charged rings to RLIMIT_MEMLOCK, of which an unprivileged QEMU has next to none (io_uring_setup(2)). */
const FREE_OF_MEMLOCK = [5, 12] as const;

/**
 * Whether QEMU may use io_uring on this host: a kernel that has it for everybody, and a build that has it. Tried once for a
 * boot, a setting of the kernel and a qemu-img, since it costs a process.
 */
export async function hasIoUring(
  host: Host,
  { qemuImg, stateDir, root = '', signal }: AioDeps,
): Promise<boolean> {
  const setting = readSetting(host, root);
  if (setting !== '0' || !isNewEnough(host.readText(`${root}/proc/sys/kernel/osrelease`))) return false;
  const path = `${stateDir}/io-uring.json`;
  const info = host.inspect(qemuImg);
  const boot = host.readText(`${root}/proc/sys/kernel/random/boot_id`).trim();
  const key = `${boot} ${qemuImg} ${info?.mtimeMs ?? 0} ${info?.size ?? 0}`;
  const kept = readCache(host, path);
  if (kept?.key === key) return kept.works;
  const works = await tryRing(host, qemuImg, `${stateDir}/io-uring.json`, signal);
  host.replaceFile(path, `${JSON.stringify({ key, works })}\n`, 0o644);
  return works;
}

/** @param direct whether the host's page cache is bypassed, which `native` needs to be asynchronous at all. */
export function chooseAio(ring: boolean, backend: 'file' | 'host_device', direct: boolean): DiskAio {
  if (ring) return 'io_uring';
  // On a file the kernel's older interface waits where blocks are allocated, in the thread that serves the guest.
  return backend === 'host_device' && direct ? 'native' : 'threads';
}

/** 0: everybody may. Kernels before 6.6 have no such setting. Source: Documentation/admin-guide/sysctl/kernel.rst. */
function readSetting(host: Host, root: string): string {
  const path = `${root}/proc/sys/kernel/io_uring_disabled`;
  return host.inspect(path) === undefined ? '0' : host.readText(path).trim();
}

function isNewEnough(release: string): boolean {
  const [, major = 0, minor = 0] = (/^(\d+)\.(\d+)/.exec(release) ?? []).map(Number);
  return major > FREE_OF_MEMLOCK[0] || (major === FREE_OF_MEMLOCK[0] && minor >= FREE_OF_MEMLOCK[1]);
}

/** qemu-img opens a file by io_uring, which sets up a ring; the file is our own cache. */
async function tryRing(host: Host, qemuImg: string, file: string, signal: AbortSignal): Promise<boolean> {
  host.replaceFile(file, '{}\n', 0o644);
  const image = { driver: 'raw', file: { driver: 'file', filename: file, aio: 'io_uring', locking: 'off' } };
  const args = ['info', `json:${JSON.stringify(image)}`];
  const { status } = await host.exec(qemuImg, args, { signal, anyStatus: true });
  return status === 0;
}

/** Undefined where there is none or somebody damaged it: it is only a cache. */
function readCache(host: Host, path: string): { key: string; works: boolean } | undefined {
  try {
    const value: unknown = JSON.parse(host.readText(path));
    if (!isJsonObject(value) || typeof value['key'] !== 'string' || typeof value['works'] !== 'boolean')
      return undefined;
    return { key: value['key'], works: value['works'] };
  } catch {
    return undefined;
  }
}
