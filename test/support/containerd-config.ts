import type { ContainerdRelease } from './containerd-release.ts';
import { patience } from './machine-traits.ts';

type Version = Pick<ContainerdRelease, 'major' | 'minor'>;

/** Seconds that containerd gives `delete` for a task whose shim has died: its default, and longer on slower machines. */
const CLEAN_UP = patience(5000) / 1000;

/** What the CRI plugin of a test needs to know. Directories are absolute paths. */
export interface CriSettings {
  readonly pauseImage: string;
  readonly cniPlugins: string;
  /** CNI configuration of pods of runtime `vm`, and of all others. */
  readonly vmNetworks: string;
  readonly otherNetworks: string;
  /** Further runtimes of ours, each with CNI configuration of its own. */
  readonly handlers: readonly { readonly name: string; readonly networks: string }[];
  /** Who makes the sandboxes of runtime `vm`: containerd, as a pause task, or the shim through the sandbox API. */
  readonly sandboxer: Sandboxer;
}

export type Sandboxer = 'podsandbox' | 'shim';

export interface ContainerdSettings {
  /** Everything of containerd's lies below it. */
  readonly directory: string;
  /** Absolute path of its socket. */
  readonly address: string;
  /** Absent without the CRI plugin. */
  readonly cri: CriSettings | undefined;
}

/** Configuration of a private containerd: version 2 for containerd 1.x, version 3 for 2.x. */
export function containerdConfig(version: Version, settings: ContainerdSettings): string {
  const { directory, address, cri } = settings;
  const unwanted = ['btrfs', 'zfs', 'devmapper', 'aufs'].map((name) => `snapshotter.v1.${name}`);
  const disabled = [...(cri === undefined ? criPlugins(version) : []), ...unwanted];
  return `version = ${configVersion(version)}
root = "${directory}/root"
state = "${directory}/state"
disabled_plugins = [${disabled.map((name) => `"io.containerd.${name}"`).join(', ')}]
[grpc]
address = "${address}"
[debug]
level = "debug"
[timeouts]
"io.containerd.timeout.shim.cleanup" = "${CLEAN_UP}s"
# On in containerd 2, with a socket that is everybody's.
[plugins."io.containerd.nri.v1.nri"]
disable = true
${cri === undefined ? '' : criConfig(version, cri)}`;
}

/** The table that makes us a runtime, as docs/kubernetes.md shows it. */
export function vmRuntimeTable(version: Version, name = 'vm'): string {
  return `[plugins."${runtimePlugin(version)}".containerd.runtimes.${name}]
  runtime_type = "io.containerd.vm.v2"
  pod_annotations = ["vmshim.io/*"]
  container_annotations = ["vmshim.io/*"]
  privileged_without_host_devices = true`;
}

/** The line of that table that has our shim make the sandboxes; 1.7 heeds it only with ENABLE_CRI_SANDBOXES=1. */
export function sandboxerLine({ major }: Version, sandboxer: Sandboxer): string {
  return `${major === 1 ? 'sandbox_mode' : 'sandboxer'} = "${sandboxer}"`;
}

export function configVersion({ major }: Version): 2 | 3 {
  return major === 1 ? 2 : 3;
}

/** containerd 2 made two plugins of the one, and left the streaming server in what has the old name. */
function criPlugins({ major }: Version): string[] {
  return ['grpc.v1.cri', ...(major === 1 ? [] : ['cri.v1.runtime', 'cri.v1.images'])];
}

function runtimePlugin({ major }: Version): string {
  return major === 1 ? 'io.containerd.grpc.v1.cri' : 'io.containerd.cri.v1.runtime';
}

function criConfig(version: Version, settings: CriSettings): string {
  const runtime = runtimePlugin(version);
  const { pauseImage, cniPlugins, vmNetworks, otherNetworks, sandboxer } = settings;
  const handlers = [{ name: 'vm', networks: vmNetworks }, ...settings.handlers];
  const streaming = 'stream_server_address = "127.0.0.1"\nstream_server_port = "0"';
  const ofVersion =
    version.major === 1
      ? `[plugins."${runtime}"]\n${streaming}\nsandbox_image = "${pauseImage}"`
      : `[plugins."io.containerd.grpc.v1.cri"]\n${streaming}
[plugins."io.containerd.cri.v1.images".pinned_images]\nsandbox = "${pauseImage}"
[plugins."${runtime}"]`;
  return `
${ofVersion}
# A negative score cannot be written here, and without this even runc's pods fail.
restrict_oom_score_adj = true
# Not in /var/run/netns, where everybody's are.
netns_mounts_under_state_dir = true
[plugins."${runtime}".cni]
bin_dir = "${cniPlugins}"
conf_dir = "${otherNetworks}"
[plugins."${runtime}".containerd]
default_runtime_name = "runc"
[plugins."${runtime}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
${handlers.map(({ name, networks }) => `${vmRuntimeTable(version, name)}\n  cni_conf_dir = "${networks}"\n${sandboxer === 'shim' ? `  ${sandboxerLine(version, sandboxer)}\n` : ''}`).join('')}`;
}
