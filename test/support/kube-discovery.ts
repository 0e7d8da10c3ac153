import type { Json } from './kube-server.ts';

interface Resource {
  readonly name: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly shortName?: string;
}

/** What this server has, by group and version: pods, and what docs/manifests are made of. */
const RESOURCES: Readonly<Record<string, readonly Resource[]>> = {
  v1: [
    { name: 'pods', kind: 'Pod', namespaced: true, shortName: 'po' },
    { name: 'serviceaccounts', kind: 'ServiceAccount', namespaced: true },
    { name: 'limitranges', kind: 'LimitRange', namespaced: true },
  ],
  'apps/v1': [{ name: 'daemonsets', kind: 'DaemonSet', namespaced: true }],
  'rbac.authorization.k8s.io/v1': [
    { name: 'clusterroles', kind: 'ClusterRole', namespaced: false },
    { name: 'clusterrolebindings', kind: 'ClusterRoleBinding', namespaced: false },
  ],
  'scheduling.k8s.io/v1': [{ name: 'priorityclasses', kind: 'PriorityClass', namespaced: false }],
  'node.k8s.io/v1': [{ name: 'runtimeclasses', kind: 'RuntimeClass', namespaced: false }],
  'admissionregistration.k8s.io/v1': [
    { name: 'validatingadmissionpolicies', kind: 'ValidatingAdmissionPolicy', namespaced: false },
    {
      name: 'validatingadmissionpolicybindings',
      kind: 'ValidatingAdmissionPolicyBinding',
      namespaced: false,
    },
  ],
};

const VERBS = ['create', 'get', 'list', 'patch', 'watch'];

/**
 * What kubectl asks before anything else: which resources there are (Kubernetes API concepts, "API discovery"), without
 * aggregation, which clients have to do without.
 * @returns undefined for a path that is none of discovery's.
 */
export function discover(path: string): Json | undefined {
  if (path === '/version') return { major: '1', minor: '32', gitVersion: 'v1.32.0' };
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] };
  if (path === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups() };
  const [, groupVersion = ''] = /^\/(?:api|apis)\/(.+)$/.exec(path) ?? [];
  const resources = RESOURCES[groupVersion];
  if (resources === undefined) return undefined;
  return {
    ...{ kind: 'APIResourceList', apiVersion: 'v1', groupVersion },
    resources: resources.map(({ name, kind, namespaced, shortName }) => ({
      ...{ name, singularName: '', kind, namespaced, verbs: VERBS },
      ...(shortName === undefined ? {} : { shortNames: [shortName] }),
    })),
  };
}

/** Whether a path is that of a collection of objects, with a namespace where they have one and without where not. */
export function isCollection(path: string): boolean {
  const [, groupVersion = '', namespace, name] =
    /^\/(?:api|apis)\/(v1|[^/]+\/v1)(?:\/namespaces\/([^/]+))?\/([^/]+)$/.exec(path) ?? [];
  const resource = RESOURCES[groupVersion]?.find((known) => known.name === name);
  return resource !== undefined && resource.namespaced === (namespace !== undefined);
}

function groups(): Json[] {
  return Object.keys(RESOURCES)
    .filter((groupVersion) => groupVersion.includes('/'))
    .map((groupVersion) => {
      const [name] = groupVersion.split('/');
      const version = { groupVersion, version: 'v1' };
      return { name, versions: [version], preferredVersion: version };
    });
}
