import type { VmFacts } from './vm-facts.ts';

export type Labels = Readonly<Record<string, string>>;

/** The pod as Kubernetes knows it; a container without a pod has containerd's namespace and id alone. */
export function labelsOf({ view: { vm }, pod }: Pick<VmFacts, 'view' | 'pod'>): Labels {
  return { namespace: pod?.namespace ?? '', pod: pod?.name ?? '', vm: vm.name, id: vm.id };
}
