import type { CriNode } from '../cri-containerd.ts';
import { vmctl } from '../vm-image.ts';

/** `vmctl` in the node's namespaces, where its file systems are; rejects when it fails. */
export function nodeVmctl({ containerd, network }: CriNode, ...args: string[]): Promise<string> {
  const config = `VMSHIM_CONFIG=${containerd.directory}/vmshim.toml`;
  const address = `CONTAINERD_ADDRESS=${containerd.address}`;
  return network.run('env', config, address, vmctl, ...args);
}
