import type { CallOptions, ContainerdClient } from './containerd-client.ts';
import { CONTAINERS, NAMESPACES } from './containerd-methods.ts';

/** A container that containerd remembers, whether a task of it runs or not. */
export interface ContainerInfo {
  readonly id: string;
  readonly image: string;
  /** Such as `io.containerd.vm.v2`. */
  readonly runtime: string;
  readonly snapshotter: string;
  readonly snapshotKey: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Its OCI spec, JSON. */
  readonly spec: string;
}

/** All containers of the client's namespace. A namespace that is not there has none. */
export async function listContainers(
  client: ContainerdClient,
  options: CallOptions,
): Promise<ContainerInfo[]> {
  const found: ContainerInfo[] = [];
  for await (const { container } of client.stream(CONTAINERS.list, {}, options)) {
    if (container === undefined || container === null) continue;
    found.push({
      id: container.id ?? '',
      image: container.image ?? '',
      runtime: container.runtime?.name ?? '',
      snapshotter: container.snapshotter ?? '',
      snapshotKey: container.snapshotKey ?? '',
      labels: container.labels ?? {},
      spec: Buffer.from(container.spec?.value ?? []).toString(),
    });
  }
  return found;
}

/** Names of containerd's namespaces. */
export async function listNamespaces(client: ContainerdClient, options: CallOptions): Promise<string[]> {
  const { namespaces } = await client.call(NAMESPACES.list, {}, options);
  return namespaces.map(({ name }) => name ?? '');
}
