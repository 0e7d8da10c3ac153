import type { ExecOptions, ExecResult, OwnedFd } from '../../../../src/host/host.ts';
import { LinuxHost } from '../../../../src/host/linux-host.ts';

/** The machine itself, with the descriptors it has open, the commands it ran and the number of its syncs. */
export class WatchedHost extends LinuxHost {
  readonly openFds: Set<OwnedFd> = new Set();
  readonly commands: string[] = [];
  syncs = 0;

  override open(path: string, flags: number, mode?: number): OwnedFd {
    const inner = super.open(path, flags, mode);
    const { openFds } = this;
    const owned: OwnedFd = {
      fd: inner.fd,
      [Symbol.dispose]: () => {
        openFds.delete(owned);
        inner[Symbol.dispose]();
      },
    };
    openFds.add(owned);
    return owned;
  }

  override exec(file: string, args: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    this.commands.push([file, ...args].join(' '));
    return super.exec(file, args, options);
  }

  override sync(fd: number): void {
    this.syncs++;
    super.sync(fd);
  }
}
