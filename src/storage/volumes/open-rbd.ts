import { describeSource, imageName } from '../../core/describe-disk.ts';
import type { DiskSpec, RbdImage, RbdTarget } from '../../core/disk-spec.ts';
import { VmError } from '../../core/errors.ts';
import { formatMonitor, type MonitorAddress } from '../../core/monitor-address.ts';
import { sha256 } from '../../core/sha256.ts';
import { LOCK_EX, LOCK_NB, LOCK_SH } from '../../host/flock.ts';
import type { Host, OwnedFd } from '../../host/host.ts';
import type { Native } from '../../host/native.ts';
import { openFlags } from '../../host/open-flags.ts';
import { ownFd } from '../../host/owned-fd.ts';
import { readRbdSecret } from './rbd-secret.ts';

/** An image in a Ceph cluster that QEMU may open. Whoever asked for it closes the descriptors. */
export interface OpenRbd {
  readonly kind: 'rbd';
  readonly spec: DiskSpec;
  readonly target: RbdTarget;
  readonly readOnly: boolean;
  /** For people: the image's name in its cluster. */
  readonly path: string;
  readonly identity: string;
  /** A lock on the image among the VMs of this node, held by whoever has the descriptor. */
  readonly fd: OwnedFd;
  /** What librados reads instead of the node's ceph.conf. */
  readonly conf: OwnedFd;
  /** The user's key in base64. */
  readonly key: OwnedFd;
}

export interface RbdRules {
  /** `rbd` of the configuration. */
  readonly rbd: { readonly monitors: readonly MonitorAddress[]; readonly timeout: number };
  /** Where the node's locks are. */
  readonly lockDir: string;
  /** Which VM has the disk of that identity, for people. */
  readonly holder: (identity: string) => string | undefined;
}

/**
 * Claims an image for a VM and gets ready what QEMU opens it with. Nothing is asked of Ceph yet.
 * @throws VmError PermissionDenied for a monitor that the node's administrator does not allow; FailedPrecondition for an
 *   image that another VM of this node has; as `readRbdSecret`.
 */
export function openRbd(
  host: Host,
  native: Pick<Native, 'flock' | 'memfdCreate'>,
  spec: DiskSpec,
  source: RbdImage,
  rules: RbdRules,
): OpenRbd {
  const monitors = allowedMonitors(spec.name, source, rules.rbd.monitors);
  const secret = readRbdSecret(host, spec.name, source.secret);
  const { pool, namespace, image, snapshot } = source;
  const target = { pool, namespace, image, snapshot, monitors, user: source.user ?? secret.user ?? 'admin' };
  const path = imageName(source);
  const identity = rbdIdentity(source);
  const readOnly = spec.access === 'ro';
  using stack = new DisposableStack();
  const lock = `${rules.lockDir}/rbd-${sha256(identity).slice(0, 32)}.lock`;
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = openFlags;
  const fd = stack.use(host.open(lock, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600));
  if (!native.flock(fd.fd, (readOnly ? LOCK_SH : LOCK_EX) | LOCK_NB)) {
    throw new VmError(
      'FailedPrecondition',
      `disk "${spec.name}" (${describeSource(source)}) is in use by ${rules.holder(identity) ?? 'another VM of this node'}; one disk serves one VM at a time, so stop that one first`,
    );
  }
  const memory = (name: string, content: string): OwnedFd => {
    const file = stack.use(ownFd(native.memfdCreate(name, 0)));
    host.writeBytes(file.fd, 0, Buffer.from(content));
    return file;
  };
  const conf = memory('vmshim-rbd-conf', librados(rules.rbd.timeout));
  const key = memory('vmshim-rbd-key', secret.key);
  stack.move();
  return { kind: 'rbd', spec, target, readOnly, path, identity, fd, conf, key };
}

/**
 * One name in two clusters is taken for one image: refused too often rather than written twice. Monitors would not tell them
 * apart, as two disks may name different ones of the same cluster; its fsid is known only to who has asked it.
 */
export function rbdIdentity(source: RbdImage): string {
  return `rbd:${imageName(source)}`;
}

function allowedMonitors(
  name: string,
  source: RbdImage,
  allowed: readonly MonitorAddress[],
): readonly MonitorAddress[] {
  const what = `disk "${name}" is ${describeSource(source)}`;
  if (allowed.length === 0) {
    throw new VmError(
      'PermissionDenied',
      `${what}, but this node lets no VM open images of Ceph; have its administrator name the monitors in rbd.monitors of the configuration, or have Ceph’s CSI driver attach the image as a block volume`,
    );
  }
  if (source.monitors.length === 0) return allowed;
  const known = new Set(allowed.map(formatMonitor));
  const foreign = source.monitors.map(formatMonitor).find((monitor) => !known.has(monitor));
  if (foreign === undefined) return source.monitors;
  throw new VmError(
    'PermissionDenied',
    `${what} of the monitor ${foreign}, but this node allows ${[...known].join(', ')}; leave monitors out, or have its administrator add it to rbd.monitors in the configuration`,
  );
}

/**
 * Complete, so that what is on the node decides nothing: no files of logs or sockets, no keyrings. `client_mount_timeout`
 * bounds the search for a monitor, which is 5 minutes otherwise. Operations of a running guest wait for Ceph as long as it
 * takes: a request that librados gives up may have been done all the same. Source: ceph.conf(5), librados' options.
 */
function librados(seconds: number): string {
  return `[global]
client_mount_timeout = ${seconds}
keyring = /dev/null
admin_socket =
log_file =
log_to_stderr = false
err_to_stderr = false
`;
}
