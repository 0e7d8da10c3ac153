import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { guest } from './guest.ts';

/** What the test guest boots with, as annotations. */
export interface BundleOptions {
  /** Words after the guest's usual command line. */
  readonly cmdline?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Merged into `linux.resources`. */
  readonly resources?: Readonly<Record<string, unknown>>;
  readonly cgroupsPath?: string;
  /** `mounts` of the OCI spec. */
  readonly mounts?: readonly Readonly<Record<string, unknown>>[];
  /** Root file system; `rootfs` of the bundle for what is mounted there. */
  readonly root?: string;
  /** False for a sandbox's bundle as containerd makes it for the sandbox API: without config.json. */
  readonly spec?: boolean;
}

/** A directory with the test guest's kernel and initrd, as an unpacked image has it. Boots without any disk. */
export async function guestRoot(directory: string): Promise<string> {
  const { kernel, initrd } = await guest();
  mkdirSync(join(directory, 'boot'), { recursive: true });
  copyFileSync(kernel, join(directory, 'boot/vmlinuz'));
  copyFileSync(initrd, join(directory, 'boot/initrd.img'));
  return directory;
}

/** A bundle as containerd prepares it before it runs `start`: config.json, an empty rootfs and the log fifo. */
export async function writeBundle(
  bundle: string,
  options: BundleOptions & { readonly root: string },
): Promise<void> {
  const { cmdline } = await guest();
  mkdirSync(join(bundle, 'rootfs'), { recursive: true });
  execFileSync('mkfifo', ['-m', '0700', join(bundle, 'log')]);
  if (options.spec === false) return;
  const spec = {
    ociVersion: '1.0.2',
    process: { user: { uid: 0, gid: 0 }, args: ['vm'], cwd: '/' },
    root: { path: options.root },
    ...(options.mounts !== undefined && { mounts: options.mounts }),
    annotations: {
      'vmshim.io/memory': '128Mi',
      'vmshim.io/network': 'none',
      'vmshim.io/kernel': '/boot/vmlinuz',
      'vmshim.io/initrd': '/boot/initrd.img',
      'vmshim.io/cmdline': `${cmdline} ${options.cmdline ?? ''}`.trim(),
      ...options.annotations,
    },
    linux: { resources: options.resources ?? {}, cgroupsPath: options.cgroupsPath },
  };
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
}
