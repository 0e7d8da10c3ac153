import { VmError } from '../core/errors.ts';
import { SpecField } from '../core/spec-field.ts';
import type { Host } from '../host/host.ts';
import type { Rootfs, RootfsMount } from '../vm/rootfs-mount.ts';

/** What a bundle's config.json says beyond the VM itself. */
export interface OciBundle {
  /** The whole spec, parsed as JSON and not further. */
  readonly spec: unknown;
  readonly kind: 'sandbox' | 'container';
  /** Path of the network namespace that the spec names; undefined for the node's own. */
  readonly netns: string | undefined;
  /** Host file whose content becomes the container's termination message. */
  readonly terminationLog: string | undefined;
  /** Host file that is the container's `/etc/resolv.conf`: containerd writes it from the pod's DNS settings. */
  readonly resolvConf: string | undefined;
  /** `root.path`, absolute. */
  readonly root: string | undefined;
}

/** Where kubelet mounts the termination log unless the pod says otherwise. */
const TERMINATION_LOG = '/dev/termination-log';

/**
 * Reads config.json of a bundle. Source: OCI runtime spec, config.md and config-linux.md; containerd's CRI annotations.
 * @throws VmError InvalidArgument naming the field.
 */
export function readOciBundle(host: Host, bundle: string): OciBundle {
  return parseOciBundle(readJson(host, `${bundle}/config.json`), bundle);
}

/** @param spec what would be in the bundle's config.json. */
export function parseOciBundle(spec: unknown, bundle: string): OciBundle {
  const field = new SpecField(spec, 'config.json');
  const type = field.at('annotations').at('io.kubernetes.cri.container-type').text();
  const root = field.at('root').at('path').text();
  return {
    spec,
    kind: type === 'sandbox' ? 'sandbox' : 'container',
    netns: namedIn(field.at('linux').at('namespaces'), 'type', 'network', 'path'),
    terminationLog: namedIn(field.at('mounts'), 'destination', TERMINATION_LOG, 'source'),
    resolvConf: namedIn(field.at('mounts'), 'destination', '/etc/resolv.conf', 'source'),
    root: root === undefined || root === '' || root.startsWith('/') ? root : `${bundle}/${root}`,
  };
}

/** containerd mounts on the bundle's `rootfs`; without mounts the spec names a ready directory (`ctr run --rootfs`). */
export function rootfsOf(bundle: string, mounts: readonly RootfsMount[], { root }: OciBundle): Rootfs {
  if (mounts.length > 0) return { path: `${bundle}/rootfs`, mounts };
  if (root !== undefined && root !== '') return { path: root, mounts: [] };
  throw new VmError(
    'InvalidArgument',
    'root.path of the OCI spec is missing; it must name the container’s root file system',
  );
}

function readJson(host: Host, path: string): unknown {
  try {
    return JSON.parse(host.readText(path)) as unknown;
  } catch (cause) {
    throw new VmError('InvalidArgument', `the OCI spec "${path}" is not readable JSON`, { cause });
  }
}

/** `value` of the first entry of a list of objects whose `key` is `name`. */
function namedIn(list: SpecField, key: string, name: string, value: string): string | undefined {
  const entry = list.items().find((item) => item.at(key).text() === name);
  const found = entry?.at(value).text();
  return found === '' ? undefined : found;
}
