import { globSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Containerd, type ContainerdOptions, privateContainerd, type TestScope } from './containerd.ts';
import type { ContainerdSource } from './containerd-release.ts';
import type { CriSettings, Sandboxer } from './containerd-config.ts';
import { PodCgroups, type PodCgroupTree } from './cri-cgroup.ts';
import { PodSlices } from './cri-slices.ts';
import { CriClient } from './cri-client.ts';
import { busyboxImage, writeImage } from './cri-images.ts';
import {
  type BridgeNetwork,
  bridgePlugins,
  cniLeft,
  networkConfig,
  NodeNetwork,
} from './cri-node-network.ts';
import { leaks } from './leaks.ts';
import { tempDir } from './temp-dir.ts';
import { vmImage } from './vm-image.ts';

/** An ordinary container image: Debian's busybox, which sleeps unless it is told better. */
export const BUSYBOX = 'example.test/busybox:1';
const PAUSE = 'example.test/pause:1';

/** The network that pods get. */
export const POD_NETWORK = { bridge: 'pods0', prefix4: '10.88.0', prefix6: 'fd00:88:0:1' } as const;

export interface CriOptions extends Pick<ContainerdOptions, 'shimConfig' | 'env' | 'source'> {
  /**
   * Plugins of the CNI network of runtime `vm`, by default the same as for all other pods, a bridge.
   * @param stateDir of the shims.
   */
  readonly vmPlugins?: Plugins;
  /** Further runtimes of ours, each with the CNI network of its own plugins. */
  readonly handlers?: Readonly<Record<string, Plugins>>;
  /** `podsandbox` by default. */
  readonly sandboxer?: Sandboxer;
  /** Which of kubelet's cgroup drivers the pods' cgroups are made as by; `cgroupfs` by default. `systemd` needs it as init. */
  readonly cgroupDriver?: 'cgroupfs' | 'systemd';
  /** Instead of the test guest. */
  readonly images?: readonly Image[];
}

type Plugins = (network: BridgeNetwork, stateDir: string) => readonly object[];

/** An archive for `ctr images import`. */
export interface Image {
  readonly name: string;
  readonly archive: string;
}

/** A node without kubelet: containerd with its CRI plugin in a network namespace, and what kubelet keeps on disk. */
export interface CriNode {
  readonly containerd: Containerd;
  readonly cri: CriClient;
  readonly network: NodeNetwork;
  readonly podNetwork: BridgeNetwork;
  readonly cgroups: PodCgroupTree;
  /** Stands for `/var/lib/kubelet`, with the pods' logs in `log`. */
  readonly kubeletDir: string;
  /** What pods have left after so many milliseconds, as the end of the test judges it. */
  readonly leaks: (withinMs: number) => Promise<string[]>;
}

/**
 * A private containerd with its CRI plugin: our runtime as handler `vm`, runc for everything else, the distribution's CNI
 * plugins, the test guest and a pause image imported. Beside what `privateContainerd` checks when the test ends, nothing
 * of CRI's, CNI's or a pod's cgroup may be left.
 */
export async function criContainerd(t: TestScope, options: CriOptions = {}): Promise<CriNode> {
  const directory = tempDir(t);
  const network = await NodeNetwork.make(t);
  const podNetwork = { ...POD_NETWORK, name: basename(directory), leases: join(directory, 'leases') };
  const cgroups = options.cgroupDriver === 'systemd' ? new PodSlices() : new PodCgroups(basename(directory));
  t.teardown(() => cgroups[Symbol.asyncDispose]());
  const { vmPlugins = bridgePlugins, sandboxer = 'podsandbox' } = options;

  let below = '';
  const cgroupParents = ['vmshim', 'k8s.io'];
  const left = (): string[] => [
    ...network.mounts(below).map((path) => `mount ${path}`),
    ...criLeft(join(below, 'state')),
    ...cniLeft(network, podNetwork),
    ...cgroups.left(),
  ];
  const kubeletDir = join(directory, 'kubelet');
  const containerd = await privateContainerd(t, {
    ...options,
    shimConfig: `kubelet_dir = "${kubeletDir}"\n${options.shimConfig ?? ''}`,
    launcher: network.enter,
    cri: (directoryOfContainerd) => {
      below = directoryOfContainerd;
      const config = (plugins: Plugins): string =>
        networkConfig(podNetwork, plugins(podNetwork, join(below, 'vms')));
      const handlers = Object.entries(options.handlers ?? {}).map(([name, plugins]) => {
        const networks = join(directory, 'cni', name);
        mkdirSync(networks, { recursive: true });
        writeFileSync(join(networks, '10-pods.conflist'), config(plugins));
        return { name, networks };
      });
      const cni = writeCni(join(directory, 'cni'), podNetwork, config(vmPlugins));
      return { pauseImage: PAUSE, handlers, sandboxer, ...cni };
    },
    cgroupParents,
    left,
  });
  const cri = new CriClient(containerd.address);
  t.teardown(() => cri[Symbol.dispose]());

  await criReady(cri);
  for (const name of [PAUSE, BUSYBOX]) {
    const archive = join(directory, 'image.tar');
    await writeImage(archive, busyboxImage(name));
    await importImage(containerd, cri, archive, name);
  }
  if (options.images === undefined) await importGuest({ containerd, cri });
  for (const { archive, name } of options.images ?? []) await importImage(containerd, cri, archive, name);
  const leaksOfNode = (withinMs: number): Promise<string[]> =>
    leaks(containerd.directory, cgroupParents, left, withinMs);
  return { containerd, cri, network, podNetwork, cgroups, kubeletDir, leaks: leaksOfNode };
}

/** SIGKILL and a new containerd, of another release where one is named; resolves when it serves CRI again. */
export async function restartContainerd(
  { containerd, cri }: CriNode,
  release?: ContainerdSource,
): Promise<void> {
  await containerd.kill();
  if (release !== undefined) await containerd.upgrade(release);
  await containerd.start();
  await criReady(cri);
}

/** The CRI plugin goes on starting after containerd has said that it is up, and refuses calls meanwhile. */
export async function criReady(cri: CriClient): Promise<void> {
  for (;;) {
    try {
      await cri.call('ListPodSandbox', {});
      return;
    } catch (error) {
      if (!/not initialized yet|UNAVAILABLE/.test(String(error))) throw error;
      await delay(20);
    }
  }
}

/** Makes the test guest's image known to pods, or what is to take its name. */
export async function importGuest(
  { containerd, cri }: Pick<CriNode, 'containerd' | 'cri'>,
  image?: Image,
): Promise<void> {
  const guest = image ?? (await vmImage());
  await importImage(containerd, cri, guest.archive, guest.name);
}

/** Imports an image for pods and waits until the CRI plugin, which learns of it by an event, knows it. */
async function importImage(
  containerd: Containerd,
  cri: CriClient,
  archive: string,
  image: string,
): Promise<void> {
  await containerd.ctr('--namespace', 'k8s.io', 'images', 'import', archive);
  while ((await cri.call('ImageStatus', { image: { image } })).image === null) await delay(10);
}

/** CNI's directories: the plugins, which are the distribution's and ours, and the networks. */
function writeCni(
  directory: string,
  network: BridgeNetwork,
  vmNetwork: string,
): Omit<CriSettings, 'pauseImage' | 'handlers' | 'sandboxer'> {
  const dirs = {
    cniPlugins: join(directory, 'bin'),
    vmNetworks: join(directory, 'vm'),
    otherNetworks: join(directory, 'others'),
  };
  for (const dir of Object.values(dirs)) mkdirSync(dir, { recursive: true });
  writeFileSync(join(dirs.vmNetworks, '10-pods.conflist'), vmNetwork);
  writeFileSync(join(dirs.otherNetworks, '10-pods.conflist'), networkConfig(network, bridgePlugins(network)));
  const ours = ['../../bin/vm-tap', 'cni-multi'].map((path) => join(import.meta.dirname, path));
  const plugins = [...globSync('/usr/lib/cni/*'), ...ours];
  for (const plugin of plugins) symlinkSync(plugin, join(dirs.cniPlugins, basename(plugin)));
  return dirs;
}

/** What the CRI plugin keeps below containerd's state: network namespaces, and directories of sandboxes and containers. */
function criLeft(state: string): string[] {
  const patterns = ['netns/*', 'io.containerd.grpc.v1.cri/{sandboxes,containers}/*'];
  return globSync(patterns.map((pattern) => `${state}/${pattern}`)).map((path) => `file ${path}`);
}
