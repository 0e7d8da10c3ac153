import { constants, openSync, writeSync } from 'node:fs';
import { toVmError, withErrno } from './linux-errno.ts';
import type { Native } from './native.ts';
import { ownFd } from './owned-fd.ts';

/** clone(2): the type setns(2) checks a network namespace's descriptor against. */
const CLONE_NEWNET = 0x40000000;

/**
 * Runs `effect` with the calling thread in a new network namespace that has nothing but a `lo` that is down. It ends
 * with the last process in it. `effect` is synchronous on purpose: Node must not run anything else in between.
 */
export function inEmptyNetwork<T>(native: Native, effect: () => T): T {
  return away(native, () => withErrno('make a network namespace', () => native.unshareNet()), effect);
}

/** Runs `effect` with the calling thread in the network namespace at `path`, such as /run/netns/NAME or /proc/PID/ns/net. */
export function inNetworkNamespace<T>(native: Native, path: string, effect: () => T): T {
  using there = ownFd(withErrno(`open ${path}`, () => openSync(path, constants.O_RDONLY)));
  const enter = (): void =>
    withErrno(`enter the network namespace ${path}`, () => native.setns(there.fd, CLONE_NEWNET));
  return away(native, enter, effect);
}

function away<T>(native: Native, enter: () => void, effect: () => T): T {
  const path = '/proc/thread-self/ns/net';
  using home = ownFd(withErrno(`open ${path}`, () => openSync(path, constants.O_RDONLY)));
  enter();
  try {
    return effect();
  } finally {
    comeBack(native, home.fd);
  }
}

// Whatever ran next would reach the wrong network, and no caller could tell: better no shim, the VMs live on without it.
function comeBack(native: Native, home: number): void {
  try {
    native.setns(home, CLONE_NEWNET);
  } catch (error) {
    writeSync(
      2,
      `vmshim: ${toVmError(error, 'return to our own network namespace, so we stop here').message}\n`,
    );
    process.abort();
  }
}
