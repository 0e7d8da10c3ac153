import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { once } from 'node:events';
import { basename, join } from 'node:path';
import { parseConfig } from '../../src/core/config.ts';
import { parseVmSpec } from '../../src/core/parse-spec.ts';
import type { VmSpec } from '../../src/core/vm-spec.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { loadNative } from '../../src/host/native.ts';
import { ownFd } from '../../src/host/owned-fd.ts';
import { type FdRole, planFds } from '../../src/qemu/plan-fds.ts';
import { QemuProcess } from '../../src/qemu/process.ts';
import { cont } from '../../src/qemu/qmp-commands.ts';
import { recordingLogger } from '../support/recording-logger.ts';
import { openBootFiles } from '../../src/vm/boot-files.ts';
import { Timeline } from '../../src/vm/timeline.ts';
import { guest } from '../support/guest.ts';
import { tempDir, type Teardown } from '../support/temp-dir.ts';

/** A VM that runs under containerd, whose QEMU is to be started again without anything around it. */
export interface Original {
  readonly pid: number;
  readonly uid: number;
  readonly bundle: string;
  readonly id: string;
}

/** The least that runs a VM's QEMU: its own arguments, descriptors of the same kinds, QMP to let the guest run. */
export class RawQemu {
  readonly #host = new LinuxHost();
  readonly #directory: string;
  readonly #rootfs: string;
  readonly #command: readonly string[];
  readonly #spec: VmSpec;
  readonly #uid: number;

  static async of(scope: Teardown, original: Original): Promise<RawQemu> {
    const directory = tempDir(scope);
    const rootfs = join(directory, 'rootfs');
    const { kernel, initrd, qcow2 } = await guest();
    for (const name of ['disk', 'boot']) mkdirSync(join(rootfs, name), { recursive: true });
    copyFileSync(qcow2, join(rootfs, 'disk', basename(qcow2)));
    copyFileSync(kernel, join(rootfs, 'boot/vmlinuz'));
    copyFileSync(initrd, join(rootfs, 'boot/initrd.img'));
    return new RawQemu(directory, rootfs, original);
  }

  private constructor(directory: string, rootfs: string, { pid, uid, bundle, id }: Original) {
    this.#directory = directory;
    this.#rootfs = rootfs;
    this.#command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    this.#uid = uid;
    const spec: unknown = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8'));
    this.#spec = parseVmSpec({ id, namespace: 'default', spec, config: this.#config() });
  }

  /** Milliseconds from exec to the first byte on the serial port. The files are opened before. */
  async firstByte(): Promise<number> {
    const [file = '', ...args] = this.#command;
    const native = loadNative();
    const signal = new AbortController().signal;
    const files = await openBootFiles(
      { host: this.#host, native, log: recordingLogger() },
      {
        spec: this.#spec,
        config: this.#config(),
        bundle: this.#directory,
        rootfs: { path: this.#rootfs, mounts: [] },
        netns: undefined,
        resolvConf: undefined,
        shimSocket: '',
        timeline: new Timeline(),
      },
      () => undefined,
      signal,
    );
    const sockets = { qmp: join(this.#directory, 'qmp'), console: join(this.#directory, 'console') };
    using owner = new DisposableStack();
    const fds = new Map<FdRole, number>(files.fds);
    owner.use(files);
    for (const [role, path] of Object.entries(sockets)) {
      this.#host.remove(path);
      fds.set(role as FdRole, owner.use(ownFd(native.listenUnix(path, 8))).fd);
    }
    const roles = planFds({
      spec: this.#spec,
      accel: 'tcg',
      machineType: 'q35',
      rootDisk: files.disk,
      guestDrive: false,
      volumes: [],
      nics: [],
      ram: { kind: 'whole', host: undefined },
      firmware: { kind: 'bios' },
      aio: 'threads',
    });

    const began = performance.now();
    await using qemu = await QemuProcess.start(this.#host, {
      file,
      command: { args, fds: roles },
      fds: roles.map((role) => fds.get(role) ?? -1),
      fdOwner: owner.move(),
      qmpPath: sockets.qmp,
      logPath: join(this.#directory, 'qemu.log'),
      cwd: '/',
      uid: this.#uid,
      gid: this.#uid,
      network: 'inherit',
    });
    const serial = connect(sockets.console);
    await once(serial, 'connect');
    const byte = once(serial, 'data');
    await cont(qemu.qmp);
    await byte;
    const time = performance.now() - began;
    serial.destroy();
    return time;
  }

  #config(): ReturnType<typeof parseConfig> {
    const dirs = `state_dir = "${this.#directory}/vms"\ndata_dir = "${this.#directory}/data"\n`;
    return parseConfig(`accel = "tcg"\n${dirs}`, 'bench');
  }
}
