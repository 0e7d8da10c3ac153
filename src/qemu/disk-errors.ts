import type { IoErrorPolicy } from '../core/hardware-spec.ts';

/**
 * What QEMU does about a request that the host's storage refused. Stopped, the request is kept and tried again when the
 * guest goes on, so that it never learns of it; reported, the guest's file system does what it does on broken hardware.
 * No hardware becomes full: that stops the guest in both cases, as libvirt and Nova have it by QEMU's default.
 */
export function diskErrors(policy: IoErrorPolicy): { readonly werror: string; readonly rerror: string } {
  return policy === 'stop' ? { werror: 'stop', rerror: 'stop' } : { werror: 'enospc', rerror: 'report' };
}
