/** `kubectl vm`, against an API server that stands in, and an agent that the test plays. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import t from 'tap';
import { loadCluster } from '../../../src/agent/kube/cluster.ts';
import { KubeApi } from '../../../src/agent/kube/kube-api.ts';
import { hasStdin, isVm, PodClient } from '../../../src/agent/kubectl/pod-client.ts';
import { askPower, type PowerVerb } from '../../../src/agent/kubectl/power-verb.ts';
import { vmDetails, vmTable } from '../../../src/agent/kubectl/vm-lines.ts';
import { KubeServer } from '../../support/kube-server.ts';
import { tempDir, type Teardown } from '../../support/temp-dir.ts';

const STOP: PowerVerb = { action: 'stop', graceSeconds: 9, force: false, wait: true };
const { signal } = new AbortController();

async function make(t: Teardown) {
  const kube = await KubeServer.start(t);
  kube.addPod({ name: 'a', uid: 'uid-a' });
  const client = new PodClient(new KubeApi(loadCluster({ kubeconfig: kube.kubeconfig }, {}), 'test'));
  const id = (): string =>
    (JSON.parse(kube.pod('a').metadata.annotations['vmshim.io/power-request'] ?? '{}') as { id?: string })
      .id ?? '';
  const answer = (phase: string, message = ''): void =>
    kube.annotate('a', 'vmshim.io/power-status', JSON.stringify({ id: id(), phase, message, time: 'now' }));
  const said: string[] = [];
  const ask = (verb = STOP) =>
    askPower(client, kube.pod('a'), verb, (sentence) => void said.push(sentence), signal);
  return { kube, client, answer, said, ask };
}

void t.test('a request is written and its answer followed, across connections that break', async (t) => {
  const { kube, answer, said, ask } = await make(t);
  const asked = ask();
  await kube.until(() => kube.watching === 1);
  t.match(JSON.parse(kube.pod('a').metadata.annotations['vmshim.io/power-request'] ?? ''), {
    ...{ id: /^[0-9a-f-]{36}$/, action: 'stop', graceSeconds: 9 },
  });
  answer('pending', 'waiting');
  answer('running');
  kube.breakConnections();
  answer('done');
  t.match(await asked, { phase: 'done' });
  t.ok(said.length <= 2);
  t.equal(await ask({ ...STOP, wait: false }), undefined);
});

void t.test('what somebody wrote into a pod does not steer the terminal of who looks at it', async (t) => {
  const { kube } = await make(t);
  const status = { id: '1', phase: 'failed', message: 'gone\u001b[2J\r\u009b1m', time: '\u202etxt' };
  kube.annotate('a', 'vmshim.io/power-request', '{"id":"1",\n"action":"stop"}\u0007');
  kube.annotate('a', 'vmshim.io/power-status', JSON.stringify(status));
  kube.change('a', (pod) => (pod.status['podIP'] = '\u001b]0;x'));
  const text = vmDetails(kube.pod('a')) + vmTable([kube.pod('a')], true);
  t.notMatch(text.replaceAll('\n', ''), /[\p{Cc}\p{Cf}]/u);
  t.match(text, /answer +failed: gone\\u\{1b\}\[2J\\u\{d\}\\u\{9b\}1m\n/);
  t.match(text, /request +\{"id":"1",\\u\{a\}"action":"stop"\}\\u\{7\}\n/);
  const program = join(import.meta.dirname, '../../../src/agent/kubectl/main.ts');
  const env = { KUBECONFIG: kube.kubeconfig };
  const running = execa(process.execPath, [program, 'stop', 'a'], { env, reject: false });
  await kube.until(() => kube.watching === 1);
  const { id } = JSON.parse(kube.pod('a').metadata.annotations['vmshim.io/power-request'] ?? '') as object & {
    id?: string;
  };
  const say = (phase: string, message: string): void =>
    kube.annotate('a', 'vmshim.io/power-status', JSON.stringify({ id, phase, message, time: '' }));
  say('pending', 'wait\u001b[1A');
  say('failed', 'no\u001b[1A');
  t.match(await running, { stderr: /^(wait\\u\{1b\}\[1A\n)?pod\/a stop: failed: no\\u\{1b\}\[1A$/ });
});

void t.test('a request that fails, is replaced, or whose pod goes', async (t) => {
  const { kube, answer, ask } = await make(t);
  const failed = ask();
  await kube.until(() => kube.watching === 1);
  answer('failed', 'why');
  t.match(await failed, { phase: 'failed', message: 'why' });
  await kube.until(() => kube.watching === 0);

  const replaced = ask();
  await kube.until(() => kube.watching === 1);
  kube.annotate('a', 'vmshim.io/power-request', '{"id":"x","action":"start"}');
  await t.rejects(replaced, { message: /another request has taken the place/ });
  await kube.until(() => kube.watching === 0);

  const gone = ask();
  await kube.until(() => kube.watching === 1);
  kube.deletePod('a');
  await t.rejects(gone, { message: /the pod is gone/ });
});

void t.test('pods as lines', async (t) => {
  const { kube, client, answer, ask } = await make(t);
  await ask({ ...STOP, wait: false });
  answer('done');
  kube.change('a', (pod) => {
    pod.status.conditions.push({
      type: 'vmshim.io/PoweredOn',
      status: 'False',
      reason: 'PoweredOff',
      message: 'why',
    });
  });
  kube.addPod({ name: 'b', uid: 'uid-b', annotations: { 'vmshim.io/power-request': '{' } });
  kube.change('b', (pod) => (pod.spec['runtimeClassName'] = 'other'));
  const pods = await client.list('default', signal);
  t.same(
    pods.map((pod) => isVm(pod, 'vm')),
    [true, false],
  );
  t.equal(
    vmTable(pods, true),
    `NAMESPACE  NAME  PHASE    POWER    REQUEST    NODE    IP
default    a     Running  off      stop done  node-1  10.0.0.9
default    b     Running  unknown  malformed  node-1  10.0.0.9
`,
  );
  t.match(vmDetails(pods[0]), /^power +off: why\n/m);
  await t.rejects(client.get('default', 'c', signal), {
    message: /there is no pod "c" in namespace "default"/,
  });
});

void t.test('the console is kubectl’s attach, with its status; the screen is on the node', async (t) => {
  const { kube } = await make(t);
  const directory = tempDir(t);
  writeFileSync(join(directory, 'kubectl'), '#!/bin/sh\necho "kubectl $*"\nexit 7\n', { mode: 0o755 });
  const plugin = async (...args: string[]) => {
    const program = join(import.meta.dirname, '../../../src/agent/kubectl/main.ts');
    const env = { KUBECONFIG: kube.kubeconfig, PATH: `${directory}:${process.env['PATH'] ?? ''}` };
    const options = { env, reject: false, stdin: 'ignore' } as const;
    const { exitCode, stdout, stderr } = await execa(process.execPath, [program, ...args], options);
    return { exitCode, stdout, stderr };
  };
  const [console, vnc] = await Promise.all([
    plugin('console', 'a', '--kubeconfig', kube.kubeconfig),
    plugin('vnc', 'a'),
  ]);
  t.match(console, {
    exitCode: 7,
    stdout: `kubectl attach --stdin --tty --namespace=default --kubeconfig=${kube.kubeconfig} -- a`,
    stderr: /pod\/a has no container with "stdin: true", so its console can be read and not typed at/,
  });
  t.match(vnc, { exitCode: 2, stderr: /on the node "vmctl vnc POD" tells where it is/ });
  t.notOk(hasStdin(kube.pod('a')));
  kube.change('a', (pod) => (pod.spec['containers'] = [{ name: 'vm', stdin: true, tty: true }]));
  t.ok(hasStdin(kube.pod('a')));
});
