import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { openFlags } from '../host/open-flags.ts';

/** The kernel's own virtio-net back end, one descriptor per queue pair, or why the VM does without. */
export type Vhost =
  | ({ readonly kind: 'vhost'; readonly fds: readonly OwnedFd[] } & Disposable)
  | { readonly kind: 'none'; readonly reason: string };

/** Opens /dev/vhost-net once per queue. Never throws: a VM without vhost works, only slower. */
export function openVhost(host: Host, queues: number, device = '/dev/vhost-net'): Vhost {
  using made = new DisposableStack();
  try {
    const fds = Array.from({ length: queues }, () => made.use(host.open(device, openFlags.O_RDWR)));
    const kept = made.move();
    return { kind: 'vhost', fds, [Symbol.dispose]: () => kept.dispose() };
  } catch (error) {
    return { kind: 'none', reason: explain(error, device) };
  }
}

function explain(error: unknown, device: string): string {
  const { kind, message } = VmError.from(error);
  if (kind === 'NotFound') {
    return `${device} does not exist; load the module (modprobe vhost_net) or use a kernel with CONFIG_VHOST_NET`;
  }
  if (kind === 'PermissionDenied') {
    return `${message}; allow the device in the cgroup or the security profile of containerd`;
  }
  return `${message}; see whether the module vhost_net loads (modprobe vhost_net)`;
}
