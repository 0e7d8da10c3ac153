import { closeSync } from 'node:fs';
import { VmError } from '../core/errors.ts';
import type { OwnedFd } from './host.ts';

/** Takes ownership of a descriptor: disposing closes it once, and its number cannot be used by mistake afterwards. */
export function ownFd(fd: number): OwnedFd {
  return new LinuxFd(fd);
}

class LinuxFd implements OwnedFd {
  #fd: number | undefined;

  constructor(fd: number) {
    this.#fd = fd;
  }

  get fd(): number {
    if (this.#fd === undefined) throw new VmError('Internal', 'a closed descriptor was used; this is a bug');
    return this.#fd;
  }

  [Symbol.dispose](): void {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined) closeSync(fd);
  }
}
