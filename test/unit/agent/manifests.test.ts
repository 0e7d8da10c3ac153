/** docs/manifests against what the agent does. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadAllYaml } from '@kubernetes/client-node';
import t from 'tap';
import { parseOptions } from '../../../src/agent/options.ts';
import { POWERED_ON, STATUS_ANNOTATION } from '../../../src/agent/kube/pod-view.ts';
import { at, itemsAt, textAt } from '../../../src/agent/kube/json.ts';
import { agentLab, poweredOn, powerStatus } from '../../support/agent-lab.ts';

const root = join(import.meta.dirname, '../../..');
const directory = join(root, 'docs/manifests');
const load = (file: string): unknown[] =>
  loadAllYaml(readFileSync(join(directory, file), 'utf8')) as unknown[];
const files = readdirSync(directory).filter((file) => file.endsWith('.yaml'));
const documents = files.flatMap(load);
const find = (kind: string): unknown => documents.find((document) => at(document, 'kind') === kind);

/** Verbs that the ClusterRole allows, such as `patch pods/status`. */
const allowed = itemsAt(find('ClusterRole'), 'rules').flatMap((rule) =>
  itemsAt(rule, 'resources').flatMap((resource) =>
    itemsAt(rule, 'verbs').map((verb) => `${String(verb)} ${String(resource)}`),
  ),
);

void t.test('the role allows every call that the agent makes, and no other', async (t) => {
  const { kube, start, vm } = await agentLab(t);
  kube.addPod({
    name: 'a',
    uid: 'uid-a',
    annotations: { 'vmshim.io/power-request': '{"id":"1","action":"no"}' },
  });
  await vm();
  // Somebody is faster, so that the pod has to be read again.
  kube.beforePatch.push((pod) => kube.annotate(pod.metadata.name, 'touched', '1'));
  await start();
  await kube.until(() => powerStatus(kube).phase === 'failed' && poweredOn(kube).status === 'True');
  t.same([...kube.asked].sort(), allowed.sort());
  t.equal(
    itemsAt(find('ClusterRole'), 'rules').every((rule) => itemsAt(rule, 'apiGroups').join() === ''),
    true,
  );
});

void t.test('the DaemonSet runs the agent with options it takes', (t) => {
  const daemonSet = find('DaemonSet');
  const spec = at(daemonSet, 'spec', 'template', 'spec');
  const [container] = itemsAt(spec, 'containers');
  const args = itemsAt(container, 'args').map(String);
  const command = parseOptions(args, { NODE_NAME: 'node-1' });
  t.match(command, {
    t: 'run',
    options: { listen: { host: '127.0.0.1', port: 9464 }, mountNamespace: '/proc/1/ns/mnt' },
  });
  t.match(itemsAt(container, 'env'), [{ name: 'NODE_NAME' }]);
  for (const probe of ['livenessProbe', 'readinessProbe'])
    t.match(at(container, probe), { httpGet: { host: '127.0.0.1', port: 9464 } });
  t.equal(at(spec, 'hostPID'), true, 'garbage collection needs the node’s processes');
  t.equal(at(spec, 'hostNetwork'), true);
  const volumes = itemsAt(spec, 'volumes').map((volume) => textAt(volume, 'name'));
  const mounts = itemsAt(container, 'volumeMounts').map((mount) => textAt(mount, 'name'));
  t.same([...mounts].sort(), [...volumes].sort());
  const paths = itemsAt(container, 'volumeMounts').map((mount) => textAt(mount, 'mountPath'));
  for (const path of ['/run/vmshim', '/var/lib/kubelet/pods', '/sys/fs/cgroup'])
    t.ok(paths.includes(path), path);
  const writable = itemsAt(container, 'volumeMounts').filter((mount) => at(mount, 'readOnly') !== true);
  t.same(
    writable.map((mount) => textAt(mount, 'mountPath')),
    ['/run/vmshim', '/tmp'],
  );
  t.equal(textAt(spec, 'serviceAccountName'), textAt(find('ServiceAccount'), 'metadata', 'name'));
  t.end();
});

void t.test('what holds an agent to its node lets it write what it writes', (t) => {
  const policy = find('ValidatingAdmissionPolicy');
  const [namespace, name] = ['namespace', 'name'].map((key) =>
    textAt(find('ServiceAccount'), 'metadata', key),
  );
  t.match(itemsAt(policy, 'spec', 'matchConditions'), [
    {
      expression: `request.userInfo.username == "system:serviceaccount:${namespace ?? ''}:${name ?? ''}"`,
    },
  ]);
  const rules = itemsAt(policy, 'spec', 'matchConstraints', 'resourceRules');
  t.match(rules, [{ operations: ['CREATE', 'UPDATE'], resources: ['pods', 'pods/*'] }]);
  const expressions = itemsAt(policy, 'spec', 'validations').map((rule) => textAt(rule, 'expression') ?? '');
  const named = expressions.flatMap((text) => [...text.matchAll(/"(vmshim[^"]*)"/g)].map(([, key]) => key));
  t.same([...new Set(named)], [STATUS_ANNOTATION, POWERED_ON], 'and nothing else');
  t.notMatch(expressions.join(), /request\.(subResource|userInfo)/, 'absent where it is empty');
  t.match(find('ValidatingAdmissionPolicyBinding'), {
    spec: { policyName: textAt(policy, 'metadata', 'name'), validationActions: ['Deny'] },
  });
  t.end();
});

void t.test('the kustomization names what is there, and what it leaves out says so', (t) => {
  const named = itemsAt(find('Kustomization'), 'resources').map(String);
  for (const file of named) t.ok(files.includes(file), file);
  for (const file of files) {
    if (named.includes(file) || file === 'kustomization.yaml') continue;
    t.match(readFileSync(join(directory, file), 'utf8'), /^# Not part of the kustomization/, file);
  }
  t.end();
});

void t.test('docs/kubernetes.md shows the same RuntimeClass', (t) => {
  const page = readFileSync(join(root, 'docs/kubernetes.md'), 'utf8');
  const shown = [...page.matchAll(/```yaml\n([^]*?)```/g)].flatMap(
    ([, text = '']) => loadAllYaml(text) as unknown[],
  );
  t.same(
    shown.find((document) => at(document, 'kind') === 'RuntimeClass'),
    find('RuntimeClass'),
  );
  t.end();
});
