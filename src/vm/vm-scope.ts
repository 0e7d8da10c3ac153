import type { Cgroup } from '../host/cgroup-plan.ts';
import { holdScope, scopeOf } from '../host/cgroup-scope.ts';
import type { Host } from '../host/host.ts';
import { KEY_VARIABLE } from './marked-process.ts';

/** A scope that systemd is making. Disposing gives it up and waits for that; the record names it for clean-up. */
export interface VmScope extends AsyncDisposable {
  /** Resolves when the VM's cgroup can be made in it. */
  readonly made: Promise<void>;
}

/** Has systemd make the scope that a VM's cgroup is in, where it is in one, while the caller does other things. */
export function beginScope(host: Host, cgroup: Cgroup, key: string, signal: AbortSignal): VmScope {
  const scope = scopeOf(cgroup);
  const given = new AbortController();
  const limit = AbortSignal.any([signal, given.signal]);
  // Without a shim that waits for it the process that holds the scope is found by the VM's key.
  const made =
    scope === undefined ? Promise.resolve() : holdScope(host, scope, { [KEY_VARIABLE]: key }, limit);
  // Whoever waits for it is told; nobody may.
  const settled = made.catch(() => undefined);
  return {
    made,
    [Symbol.asyncDispose]: async () => {
      given.abort();
      await settled;
    },
  };
}
