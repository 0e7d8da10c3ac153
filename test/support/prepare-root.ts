/**
 * Prepares a root disk as a shim does and dies by SIGKILL before the effect with the given number: a program of
 * root-crashes.test.ts. Prints how many effects there were when it comes to the end.
 *
 *     node prepare-root.ts ROOTFS DATA_DIR (MAJOR:MINOR | volume DIRECTORY | pod) ROOT_BYTES KILL_AT
 */
import { LinuxHost } from '../../src/host/linux-host.ts';
import type { ExecOptions, ExecResult, OwnedFd } from '../../src/host/host.ts';
import { openFlags } from '../../src/host/open-flags.ts';
import { findImageDisk } from '../../src/storage/image-disk.ts';
import { ensureRootDevice, openRootDevice } from '../../src/storage/root-device.ts';
import { ensureOverlay, planRootDisk } from '../../src/storage/root-disk.ts';

const [rootfs = '', dataDir = '', place = '', rootBytes = '', killAt = ''] = process.argv.slice(2);

class DyingHost extends LinuxHost {
  effects = 0;

  override open(path: string, flags: number, mode?: number): OwnedFd {
    if ((flags & openFlags.O_CREAT) !== 0) this.#step();
    return super.open(path, flags, mode);
  }

  override writeBytes(fd: number, offset: number, bytes: Uint8Array): void {
    this.#step();
    // Half of what was to be written, as a power failure may leave it.
    if (this.effects === Number(killAt)) super.writeBytes(fd, offset, bytes.subarray(0, bytes.length >> 1));
    this.#step();
    super.writeBytes(fd, offset, bytes);
  }

  override sync(fd: number): void {
    this.#step();
    super.sync(fd);
  }

  override link(existing: string, name: string): void {
    this.#step();
    super.link(existing, name);
  }

  override remove(path: string): void {
    this.#step();
    super.remove(path);
  }

  override makeDir(path: string, mode: number): void {
    this.#step();
    super.makeDir(path, mode);
  }

  override exec(file: string, args: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    this.#step();
    const done = super.exec(file, args, options);
    // Its program runs on without us.
    this.#step();
    return done;
  }

  #step(): void {
    this.effects++;
    if (this.effects > Number(killAt)) process.kill(process.pid, 'SIGKILL');
  }
}

const host = new DyingHost();
const image = findImageDisk(host, rootfs, 'required');
const device = /^(\d+):(\d+)$/.exec(place);
const request = { rootDiskBytes: Number(rootBytes), qemuImg: 'qemu-img' };
if (device !== null) {
  const [major = NaN, minor = NaN] = device.slice(1).map(Number);
  const opened = openRootDevice(host, { kind: 'device', path: '/', major, minor, fill: 'once' });
  await ensureRootDevice(host, opened, image, { ...request, pieceBytes: 8 * 2 ** 20 });
} else {
  const owner = {
    kind: 'pod',
    uid: 'uid',
    name: 'web-0',
    namespace: 'shop',
    container: 'vm',
    sandboxId: 's',
  } as const;
  const statePlace = { bundleRootfs: rootfs, dataDir, id: 'c', namespace: 'k8s.io', nodeKey: '' };
  const bases = { directory: `${dataDir}/bases`, mode: 'copy', layers: [] } as const;
  const plan = planRootDisk(owner, statePlace);
  await ensureOverlay(host, plan, image, { ...request, direct: false, bases });
}
process.stdout.write(String(host.effects));
