import { VmError } from '../core/errors.ts';
import type { Host, OwnedFd } from '../host/host.ts';
import { errnoName, toVmError } from '../host/linux-errno.ts';
import type { Native } from '../host/native.ts';
import { inNetworkNamespace } from '../host/network-namespace.ts';
import { openFlags } from '../host/open-flags.ts';
import type { Netns } from './ip-command.ts';
import { checkLinkName } from './link-name.ts';

export interface TapRequest {
  readonly name: string;
  /** Queue pairs, 1 to 256; QEMU is handed one descriptor for each. */
  readonly queues: number;
  /** Where the TAP is to be. Its descriptors work from anywhere. */
  readonly netns: Netns;
  /** The user QEMU runs as. */
  readonly uid: number;
}

/**
 * A TAP that lives as long as one of its descriptors is open, here or in QEMU. Disposing closes ours: before they were
 * handed on, that removes the TAP; afterwards it only drops our copies.
 */
export interface Tap extends Disposable {
  readonly name: string;
  readonly netns: Netns;
  readonly queues: readonly OwnedFd[];
}

export interface TapDeps {
  readonly host: Host;
  readonly native: Native;
}

/** Documentation/networking/tuntap.rst, linux/if_tun.h. */
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const IFF_TUN_EXCL = 0x8000;
const MAX_QUEUES = 256;

/**
 * Makes a non-persistent TAP: down, with the kernel's MTU, and without IPv6 of the host's own on it, until it is
 * attached. Every queue has IFF_VNET_HDR, without which QEMU drops checksum and segmentation offload and does not say so;
 * the size of that header and the offloads are QEMU's to set.
 * @throws VmError FailedPrecondition when the name is taken, NotFound without /dev/net/tun, InvalidArgument for the rest.
 */
export function openTap(deps: TapDeps, request: TapRequest): Tap {
  const { queues, netns } = request;
  const name = checkLinkName(request.name);
  if (!Number.isInteger(queues) || queues < 1 || queues > MAX_QUEUES) {
    throw new VmError('InvalidArgument', `a TAP cannot have ${queues} queues; use 1 to ${MAX_QUEUES}`);
  }
  using made = new DisposableStack();
  const open = (): OwnedFd[] => openQueues(deps, request).map((fd) => made.use(fd));
  const fds = netns === undefined ? open() : inNetworkNamespace(deps.native, netns, open);
  const kept = made.move();
  return { name, netns, queues: fds, [Symbol.dispose]: () => kept.dispose() };
}

/** In the namespace of the calling thread: /dev/net/tun remembers the one it was opened in. */
function openQueues({ host, native }: TapDeps, { name, queues, uid }: TapRequest): OwnedFd[] {
  const flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (queues > 1 ? IFF_MULTI_QUEUE : 0);
  using made = new DisposableStack();
  const fds: OwnedFd[] = [];
  for (let queue = 0; queue < queues; queue++) {
    const fd = made.use(openTun(host));
    // Without EXCL the first queue would silently become one more of somebody else's TAP of that name.
    const exclusive = queue === 0 ? IFF_TUN_EXCL : 0;
    attachQueue(name, () => native.tunSetIff(fd.fd, name, flags | exclusive));
    fds.push(fd);
    // A TAP without an owner takes further queues from any user who can open /dev/net/tun.
    if (queue === 0) attachQueue(name, () => native.tunSetInt(fd.fd, 'owner', uid));
  }
  silenceTap(host, name);
  made.move();
  return fds;
}

function openTun(host: Host): OwnedFd {
  try {
    return host.open('/dev/net/tun', openFlags.O_RDWR | openFlags.O_NONBLOCK);
  } catch (error) {
    if (!VmError.is(error, 'NotFound')) throw error;
    throw new VmError('NotFound', `${error.message}; load the kernel module tun (modprobe tun)`, {
      cause: error,
    });
  }
}

function attachQueue(name: string, effect: () => unknown): void {
  try {
    effect();
  } catch (error) {
    if (errnoName(error) !== 'EBUSY') throw toVmError(error, `make the TAP ${name}`);
    throw new VmError(
      'FailedPrecondition',
      `the network interface ${name} exists already, so a VM with this name still runs or has not ended yet; stop it first`,
      { cause: error },
    );
  }
}

/**
 * The host must not give itself an address on the guest's link, nor send router solicitations into it. For the calling
 * thread's network namespace; a TAP that moves to another one forgets it.
 */
export function silenceTap(host: Host, name: string): void {
  const path = `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`;
  if (host.inspect(path) !== undefined) host.writeText(path, '1');
}
