import t from 'tap';
import { parseConfig } from '../../../src/core/config.ts';
import { parseVmSpec } from '../../../src/core/parse-spec.ts';
import { planCgroup } from '../../../src/host/cgroup-plan.ts';
import { parseOciBundle } from '../../../src/shim/oci-bundle.ts';
import type { PodIdentity } from '../../../src/shim/pod-identity.ts';
import { resolvConfText, sandboxSpec } from '../../../src/shim/sandbox-spec.ts';

const nothing = { cpuPeriod: 0, cpuQuota: 0, cpuShares: 0, memoryBytes: 0 };
const pod: PodIdentity = {
  ...{ name: 'web-0', namespace: 'shop', uid: 'b1c2', hostname: 'web-0' },
  dns: { servers: [], searches: [], options: [] },
  ...{ portMappings: [], annotations: {}, cgroupParent: '', overhead: nothing, resources: nothing },
};
const config = parseConfig('', 'test');
const vmSpec = (change: Partial<PodIdentity>, netns?: string) =>
  parseVmSpec({
    id: 's1',
    namespace: 'k8s.io',
    spec: sandboxSpec('s1', { ...pod, ...change }, { netns, resolvConf: undefined }),
    config,
  });

void t.test('a pod that CRI describes means what its config.json would', (t) => {
  const places = { netns: '/run/netns/x', resolvConf: '/b/resolv.conf' };
  t.match(parseOciBundle(sandboxSpec('s1', pod, places), '/b'), { kind: 'sandbox', ...places });
  t.same(vmSpec({}).owner, {
    ...{ kind: 'pod', uid: 'b1c2', name: 'web-0', namespace: 'shop', container: '', sandboxId: 's1' },
  });
  t.equal(vmSpec({}, '/run/netns/x').network.mode, 'pod');
  t.equal(vmSpec({}).network.mode, 'user', 'a pod in the node’s own network');
  const none = { netns: undefined, resolvConf: undefined };
  t.match(parseOciBundle(sandboxSpec('s1', pod, none), '/b'), none);
  t.equal(vmSpec({ annotations: { 'vmshim.io/cpus': '3' } }).vcpus, 3);
  t.throws(() => vmSpec({ annotations: { 'vmshim.io/cpu': '3' } }), { message: /vmshim\.io\/cpus/ });
  t.match(vmSpec({ uid: '' }).owner, { uid: 's1' }, 'crictl gives none');
  t.end();
});

void t.test('no annotation makes one pod another', (t) => {
  const cri = (key: string): string => `io.kubernetes.cri.${key}`;
  const annotations = {
    ...{ [cri('sandbox-id')]: 'other', [cri('sandbox-uid')]: 'other' },
    ...{ [cri('sandbox-name')]: 'other', [cri('container-type')]: 'container' },
  };
  t.same(vmSpec({ annotations }).owner, vmSpec({}).owner);
  t.end();
});

void t.test('the pod’s cgroup, as kubelet names it for cgroupfs and for systemd', (t) => {
  const path = (cgroupParent: string): string =>
    planCgroup({ kind: 'v2', hierarchies: [], systemd: true }, vmSpec({ cgroupParent }).cgroupsPath, 's1')
      .path;
  t.equal(path('/kubepods/burstable/podb1c2'), '/kubepods/burstable/podb1c2');
  t.equal(
    path('kubepods-burstable-podb1_c2.slice'),
    '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podb1_c2.slice',
  );
  const full = '/kubepods.slice/kubepods-podb1.slice';
  t.equal(path(full), full);
  t.equal(path('kubepods.slice'), '/kubepods.slice');
  t.equal(path(''), '/vmshim/s1', 'crictl gives none');
  t.throws(() => path('/../x'), { message: /"\/\.\.\/x"/ });
  t.end();
});

void t.test('the pod’s resolv.conf', (t) => {
  const dns = { servers: ['10.96.0.10', 'fd00::a'], searches: ['a.b', 'b'], options: ['ndots:5'] };
  t.equal(resolvConfText(dns), 'search a.b b\nnameserver 10.96.0.10\nnameserver fd00::a\noptions ndots:5\n');
  t.equal(resolvConfText(pod.dns), undefined);
  t.end();
});
