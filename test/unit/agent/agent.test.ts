/** The agent between an API server and shims that stand in at the wire. */
import t from 'tap';
import type { PowerAsk } from '../../../src/control/control-service.ts';
import { type AgentLab, agentLab, KEY, poweredOn, powerStatus } from '../../support/agent-lab.ts';
import type { StandInShim } from '../../support/stand-in-shim.ts';
import type { Teardown } from '../../support/temp-dir.ts';

const REQUEST = 'vmshim.io/power-request';
const STATUS = 'vmshim.io/power-status';
const request = (id: string, action: string, more = {}): string => JSON.stringify({ id, action, ...more });

/** Stops and starts at once, and remembers ids as a shim does. */
function obedient(shim: StandInShim): void {
  const done = new Set<string>();
  shim.power = ({ id, action }: PowerAsk) => {
    const power = { id, action, phase: 'done', message: '', atMs: Date.now() };
    if (!done.has(id)) shim.set({ power, powerState: action === 'stop' ? 'off' : 'on' });
    done.add(id);
    return power;
  };
}

/** A pod "a" whose VM runs and obeys, seen by an agent. */
async function watchedVm(t: Teardown): Promise<AgentLab & { readonly shim: StandInShim }> {
  const lab = await agentLab(t);
  lab.kube.addPod({ name: 'a', uid: 'uid-a' });
  const shim = await lab.vm();
  obedient(shim);
  await lab.start();
  await lab.kube.until(() => poweredOn(lab.kube).status === 'True');
  return { ...lab, shim };
}

void t.test('a request goes to the VM and its end into the pod, with the condition', async (t) => {
  const { kube, shim } = await watchedVm(t);
  kube.annotate('a', REQUEST, request('1', 'stop', { graceSeconds: 7 }));
  await kube.until(() => powerStatus(kube).phase === 'done' && poweredOn(kube).status === 'False');
  t.same(
    shim.asked.map(({ id, action, graceSeconds, wait, force }) => [id, action, graceSeconds, wait, force]),
    [['1', 'stop', 7, true, false]],
  );
  t.match(powerStatus(kube), { id: '1', phase: 'done', message: '', time: /^\d{4}-.*Z$/ });
  t.match(poweredOn(kube), { reason: 'PoweredOff', lastTransitionTime: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/ });
  t.equal(kube.pod('a').status.conditions.length, 2, 'kubelet’s conditions stay');
  kube.annotate('a', REQUEST, request('2', 'start'));
  await kube.until(() => powerStatus(kube).id === '2' && powerStatus(kube).phase === 'done');
  await kube.until(() => poweredOn(kube).status === 'True');
  t.same([...kube.asked].sort(), ['list pods', 'patch pods', 'patch pods/status', 'watch pods']);
});

void t.test('an agent that was restarted does nothing twice', async (t) => {
  const { kube, start, vm } = await agentLab(t);
  kube.addPod({ name: 'a', uid: 'uid-a', annotations: { [REQUEST]: request('1', 'reset') } });
  const shim = await vm();
  obedient(shim);
  const first = await start();
  await kube.until(() => powerStatus(kube).phase === 'done');
  await first[Symbol.asyncDispose]();
  const second = await start();
  await kube.until(() => kube.watching === 1);
  kube.annotate('a', REQUEST, request('2', 'reset'));
  await kube.until(() => powerStatus(kube).id === '2' && powerStatus(kube).phase === 'done');
  t.same(
    shim.asked.map(({ id }) => id),
    ['1', '2'],
  );
  await second[Symbol.asyncDispose]();

  // Killed between asking and writing what came of it.
  kube.change('a', (pod) => {
    pod.metadata.annotations[REQUEST] = request('3', 'reset');
    pod.metadata.annotations['vmshim.io/power-status'] = JSON.stringify({
      ...{ id: '3', phase: 'running', message: '', time: new Date().toISOString() },
    });
  });
  shim.set({ power: { id: '3', action: 'reset', phase: 'done', message: 'once', atMs: Date.now() } });
  await start();
  await kube.until(() => powerStatus(kube).phase === 'done');
  t.match(powerStatus(kube), { id: '3', message: 'once' });
  t.equal(shim.asked.length, 2);
});

void t.test('an agent that was restarted asks nothing that a cache alone still tells of', async (t) => {
  const { kube, start, vm } = await agentLab(t);
  const shim = await vm();
  obedient(shim);
  kube.addPod({ name: 'a', uid: 'uid-a' }).status.conditions.push({
    type: 'vmshim.io/PoweredOn',
    status: 'True',
    reason: 'PoweredOn',
    message: '',
  });
  kube.annotate('a', REQUEST, request('1', 'stop'));
  const answer = { id: '1', phase: 'running', message: '', time: new Date(Date.now() + 1).toISOString() };
  kube.annotate('a', STATUS, JSON.stringify(answer));
  kube.cache = [structuredClone(kube.pod('a'))];
  // Its agent died before it asked, and the operator has thought better of it.
  kube.annotate('a', REQUEST, request('2', 'start'));
  kube.annotate('a', STATUS, JSON.stringify({ ...answer, id: '2', phase: 'done' }));
  // A cache that lags behind tells of what has changed later on as well.
  kube.endsAtOnce = true;
  kube.compact();
  await start();
  await kube.until(() => kube.asked.has('get pods') || shim.asked.length > 0);
  kube.endsAtOnce = false;
  kube.annotate('a', REQUEST, request('3', 'start'));
  await kube.until(() => powerStatus(kube).id === '3' && powerStatus(kube).phase === 'done');
  t.same(
    shim.asked.map(({ id }) => id),
    ['3'],
  );
});

void t.test('a request that is none is answered by a sentence and asked of nobody', async (t) => {
  const { kube, start, vm } = await agentLab(t);
  kube.addPod({ name: 'a', uid: 'uid-a', annotations: { [REQUEST]: request('1', 'explode') } });
  const shim = await vm();
  obedient(shim);
  await start();
  await kube.until(() => powerStatus(kube).phase === 'failed');
  t.match(powerStatus(kube), { id: '1', message: /"action" is "explode"/ });
  shim.power = () => {
    throw new Error('the shim does not like it');
  };
  kube.annotate('a', REQUEST, request('2', 'nmi'));
  await kube.until(() => powerStatus(kube).id === '2' && powerStatus(kube).phase === 'failed');
  t.match(powerStatus(kube).message, /does not like it/);
});

void t.test('conflicts are met by looking again; the last request wins', async (t) => {
  const { kube, shim } = await watchedVm(t);
  const touch = (): void => kube.annotate('a', 'touched', kube.version);
  kube.beforePatch.push(touch, touch, () => kube.annotate('a', REQUEST, request('2', 'start')));
  kube.annotate('a', REQUEST, request('1', 'stop'));
  await kube.until(() => powerStatus(kube).id === '2' && powerStatus(kube).phase === 'done');
  t.equal(shim.asked.at(-1)?.id, '2');
  t.equal(kube.beforePatch.length, 0);
  t.ok(kube.asked.has('get pods'));
});

void t.test('the end of a request that another one cut short is no answer of that one', async (t) => {
  const { kube, shim } = await watchedVm(t);
  const calls = ['1', '2'].map((id) => ({
    id,
    began: Promise.withResolvers<undefined>(),
    ends: Promise.withResolvers<undefined>(),
  }));
  const [first, second] = calls;
  shim.power = async ({ id, action }) => {
    const call = calls.find((one) => one.id === id);
    call?.began.resolve(undefined);
    await call?.ends.promise;
    return { id, action, phase: 'done', message: '', atMs: Date.now() };
  };
  kube.annotate('a', REQUEST, request('1', 'stop'));
  await first?.began.promise;
  kube.annotate('a', REQUEST, '{"id":"2","action":"stop","force":true}');
  await second?.began.promise;
  first?.ends.resolve(undefined);
  // Whatever the agent makes of that, it has made of it before it tells of another change of the VM.
  shim.set({ powerState: 'paused' });
  await kube.until(() => poweredOn(kube).reason === 'Paused');
  t.match(powerStatus(kube), { id: '2', phase: 'running' });
  second?.ends.resolve(undefined);
  await kube.until(() => powerStatus(kube).phase === 'done');
  t.same(
    shim.asked.map(({ id }) => id),
    ['1', '2'],
    'neither is asked again',
  );
});

void t.test(
  'an outage of the API server touches no VM, and what came of a request is told after it',
  async (t) => {
    const { kube, log, start, vm, page } = await agentLab(t);
    kube.addPod({ name: 'a', uid: 'uid-a' });
    const shim = await vm();
    const asked = Promise.withResolvers<undefined>();
    const answer = Promise.withResolvers<undefined>();
    shim.power = async ({ id, action }) => {
      asked.resolve(undefined);
      await answer.promise;
      const power = { id, action, phase: 'done', message: '', atMs: Date.now() };
      shim.set({ power, powerState: 'off' });
      return power;
    };
    await start();
    await kube.until(() => poweredOn(kube).status === 'True');
    t.same(await page('/readyz'), { status: 200, body: 'ok\n' });
    kube.annotate('a', REQUEST, request('1', 'stop'));
    await asked.promise;
    t.match(powerStatus(kube), { id: '1', phase: 'running' }, 'said before it was asked');
    kube.outage = 503;
    kube.breakConnections();
    answer.resolve(undefined);
    const before = kube.requests.length;
    // The second of each shows that the agent has taken the refusal of the first in.
    const refused = (method: string): number =>
      kube.requests.slice(before).filter((line) => line.startsWith(method)).length;
    await kube.until(() => refused('PATCH') >= 2 && refused('GET') >= 2);
    t.match(await page('/readyz'), { status: 503 });
    t.match(await page('/healthz'), { status: 200 }, 'a restart would help nobody');
    t.match((await page('/metrics')).body, /vmshim_agent_api_connected 0/);
    t.equal(powerStatus(kube).phase, 'running');
    kube.outage = undefined;
    await kube.until(() => powerStatus(kube).phase === 'done' && poweredOn(kube).status === 'False');
    t.equal(shim.asked.length, 1);
    t.equal(log.lines.filter((line) => /cannot be watched/.test(line)).length, 1, 'one line per outage');
  },
);

void t.test('a pod is found by its UID: another one of the same name has no VM', async (t) => {
  const { kube, vm, shim } = await watchedVm(t);
  kube.deletePod('a');
  kube.addPod({ name: 'a', uid: 'uid-new', annotations: { [REQUEST]: request('1', 'stop') } });
  await kube.until(() => powerStatus(kube).phase === 'pending');
  t.match(powerStatus(kube), { message: /waiting for the pod’s VM/ });
  const second = await vm({ key: 'f'.repeat(20), podUid: 'uid-new' });
  obedient(second);
  await kube.until(() => powerStatus(kube).phase === 'done');
  t.same([shim.asked.length, second.asked.length], [0, 1]);
});

void t.test('a static pod: kubelet and its VM call it by another UID than the API server', async (t) => {
  const { kube, start, vm, page } = await agentLab(t);
  const mirror = { 'kubernetes.io/config.hash': 'uid-a', 'kubernetes.io/config.mirror': 'uid-a' };
  kube.addPod({ name: 'a', uid: 'uid-mirror', annotations: mirror });
  const shim = await vm({ pod: { namespace: 'default', name: 'a' } });
  obedient(shim);
  await start();
  await kube.until(() => poweredOn(kube).status === 'True');
  kube.annotate('a', REQUEST, request('1', 'stop'));
  await kube.until(() => powerStatus(kube).phase === 'done' && poweredOn(kube).status === 'False');
  t.match((await page('/metrics')).body, /^vmshim_vm_state\{namespace="default",pod="a".*state="off"\} 1$/m);
  // kubelet makes it anew when somebody deletes it, and the VM goes on.
  kube.deletePod('a');
  kube.addPod({ name: 'a', uid: 'uid-mirror-2', annotations: mirror });
  await kube.until(() => poweredOn(kube).status === 'False');
  // So it does for a pod that was there before its VM.
  shim.set({ powerState: 'on' });
  await kube.until(() => poweredOn(kube).status === 'True');
  t.equal(shim.asked.length, 1);
});

void t.test('a pod that claims to mirror another one has no power over its VM', async (t) => {
  const { kube, shim, page } = await watchedVm(t);
  shim.writeRecord({ pod: { namespace: 'default', name: 'a' } });
  const claims = (name: string, namespace: string): object =>
    kube.addPod({
      ...{ name, namespace, uid: `uid-${name}-${namespace}` },
      annotations: { 'kubernetes.io/config.mirror': 'uid-a', [REQUEST]: request('1', 'stop') },
    });
  const pending = (key: string): boolean =>
    /waiting for the pod’s VM/.test(kube.pods.get(key)?.metadata.annotations[STATUS] ?? '');
  claims('b', 'default');
  claims('a', 'other');
  await kube.until(() => pending('default/b') && pending('other/a'));
  t.equal(kube.pods.get('default/b')?.status.conditions.length, 1);
  t.same(shim.asked, []);
  t.match((await page('/metrics')).body, /^vmshim_vm_state\{namespace="default",pod="a".*state="on"\} 1$/m);
  t.equal(poweredOn(kube).status, 'True');
  // What a VM of an earlier version belongs to its record does not say.
  shim.writeRecord({ pod: undefined });
  kube.annotate('a', REQUEST, request('2', 'stop'));
  await kube.until(() => powerStatus(kube).phase === 'done');
  t.match(shim.asked, [{ id: '2' }]);
});

void t.test('a shim that dies is waited for, and its successor answers', async (t) => {
  const { kube, shim } = await watchedVm(t);
  await shim.die();
  kube.annotate('a', REQUEST, request('1', 'stop'));
  await kube.until(() => /does not answer/.test(powerStatus(kube).message ?? ''));
  t.equal(poweredOn(kube).status, 'True', 'its guest may go on');
  await shim.serve();
  await kube.until(() => powerStatus(kube).phase === 'done');
  t.equal(shim.asked.length, 1);
});

void t.test('shims of an earlier version: without Watch and Power', async (t) => {
  const { kube, start, vm } = await agentLab(t);
  kube.addPod({ name: 'a', uid: 'uid-a' });
  const shim = await vm({ watches: false });
  shim.status = { ...shim.status, powerState: '' };
  await start();
  await kube.until(() => poweredOn(kube).status === 'True');
  shim.status = { ...shim.status, state: 'paused' };
  shim.writeRecord();
  await kube.until(() => poweredOn(kube).reason === 'Paused');
});

void t.test('a VM that ends, and a state directory that is wiped', async (t) => {
  const { kube, start, vm, page } = await agentLab(t);
  kube.addPod({ name: 'a', uid: 'uid-a' });
  const shim = await vm();
  await start();
  await kube.until(() => poweredOn(kube).status === 'True');
  await shim.die();
  const exit = { status: 0, at: 1, reason: { kind: 'guest-shutdown' } };
  shim.writeRecord({ exit, shim: { pid: 1, startTime: 1 }, qemu: undefined });
  await kube.until(() => poweredOn(kube).status === 'False');
  t.match(poweredOn(kube), { reason: 'Ended', message: /powered itself off/ });
  t.match((await page('/metrics')).body, /vmshim_agent_vm_exits_total\{reason="guest-shutdown"\} 1/);
  await shim.stop();
  const again = await vm();
  t.equal(again.runDir.endsWith(KEY), true);
  await kube.until(() => poweredOn(kube).status === 'True');
});

void t.test('pages', async (t) => {
  const { kube, start, vm, page } = await agentLab(t);
  kube.addPod({ name: 'a', uid: 'uid-a' });
  const shim = await vm();
  shim.set({ vcpus: 2, accel: 'tcg', traffic: [{ name: 'eth0', rxBytes: 5 }] });
  const agent = await start();
  await kube.until(() => poweredOn(kube).status === 'True');
  const { body } = await page('/metrics');
  const labels = `namespace="default",pod="a",vm="vm-1",id="id-${KEY}"`;
  for (const line of [
    `vmshim_vm_state{${labels},state="on"} 1`,
    `vmshim_vm_state{${labels},state="off"} 0`,
    `vmshim_vm_vcpus{${labels}} 2`,
    `vmshim_vm_ram_bytes{${labels}} 67108864`,
    `vmshim_vm_network_receive_bytes_total{${labels},interface="eth0"} 5`,
    'vmshim_agent_pods 1',
  ])
    t.ok(body.includes(`\n${line}\n`), line);
  t.equal((await page('/')).status, 404);
  t.equal((await page('/constructor')).status, 404);
  const post = await fetch(`http://127.0.0.1:${agent.address.port}/metrics`, { method: 'POST' });
  t.equal(post.status, 405);
});
