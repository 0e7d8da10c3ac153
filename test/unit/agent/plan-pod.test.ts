import t from 'tap';
import type { PodView } from '../../../src/agent/kube/pod-view.ts';
import { type Asked, planPod } from '../../../src/agent/power/plan-pod.ts';
import type { PowerAnswer } from '../../../src/agent/power/power-status.ts';
import type { VmView } from '../../../src/agent/vms/vm-view.ts';
import type { NodeVm } from '../../../src/control/node-vms.ts';

const NOW = new Date('2026-03-04T05:06:07.000Z');
const BEFORE = '2026-03-04T05:06:00.000Z';

const vm: NodeVm = {
  ...{ key: 'k', runDir: '/r', namespace: 'n', id: 'i', name: 'vm', podUid: 'u', cgroup: '/c' },
  ...{
    createdAt: 1000,
    pod: { namespace: 'n', name: 'p' },
    controlSocket: '/s',
    shim: undefined,
    qemu: undefined,
    alive: 'shim',
    exit: undefined,
  },
};

const pod = (more: Partial<PodView> = {}): PodView => ({
  ...{ uid: 'u', namespace: 'n', name: 'p', resourceVersion: '1', deleting: false, restarts: 0 },
  ...{ request: undefined, status: undefined, poweredOn: undefined, staticUid: undefined },
  ...more,
});

const answers = (more: { power?: PowerAnswer; powerState?: 'on' | 'off'; vm?: NodeVm } = {}): VmView => ({
  ...{ t: 'answers', vm, status: {}, powerState: 'on', powerReason: '', power: undefined },
  ...more,
});

const said = (id: string, phase: PowerAnswer['phase'], message = ''): PowerAnswer => ({
  id,
  phase,
  message,
  time: BEFORE,
});
const request = '{"id":"2","action":"stop"}';
const on = { status: 'True', reason: 'PoweredOn', message: '' } as const;

/** What is planned about power, in short. */
function plan(view: Partial<PodView>, of: VmView | undefined, asked?: Asked): string {
  const { answer, ask } = planPod(pod({ poweredOn: on, ...view }), of, asked, NOW);
  if (answer !== undefined)
    return `say ${answer.id} ${answer.phase}${answer.message === '' ? '' : `: ${answer.message}`}`;
  return ask === undefined ? 'nothing' : `ask ${ask.id}`;
}

const written = (answer: PowerAnswer): Partial<PodView> => ({ request, status: JSON.stringify(answer) });

void t.test('a request is written down, then asked, then its end is written', (t) => {
  t.equal(plan({}, answers()), 'nothing');
  t.equal(plan({ request }, answers()), 'say 2 running');
  t.equal(plan(written(said('1', 'done')), answers()), 'say 2 running', 'whatever was before');
  t.equal(plan(written(said('2', 'running')), answers()), 'ask 2');
  t.equal(plan(written(said('2', 'running')), answers(), { t: 'under way', id: '2' }), 'nothing');
  t.equal(plan(written(said('2', 'running')), answers({ power: said('2', 'running') })), 'nothing');
  const done: Asked = { t: 'answered', id: '2', answer: said('2', 'done') };
  t.equal(plan(written(said('2', 'running')), answers(), done), 'say 2 done');
  t.equal(plan(written(said('2', 'running')), answers({ power: said('2', 'done') })), 'say 2 done');
  t.equal(plan(written(said('2', 'done')), answers()), 'nothing');
  t.equal(plan(written(said('2', 'failed', 'why')), answers()), 'nothing', 'never again');
  t.end();
});

void t.test('what it was asked before says nothing of another request', (t) => {
  const old: Asked = { t: 'answered', id: '1', answer: said('1', 'done') };
  t.equal(plan(written(said('2', 'running')), answers({ power: said('1', 'done') }), old), 'ask 2');
  t.end();
});

void t.test('a VM that is busy is waited for, but for force', (t) => {
  const busy = answers({ power: said('1', 'running') });
  t.match(plan({ request }, busy), /^say 2 pending: waiting until the VM is done with request "1"$/);
  t.match(plan(written(said('2', 'running')), busy, { t: 'refused', id: '2' }), /^say 2 pending/);
  t.equal(
    plan(written(said('2', 'pending', 'waiting until the VM is done with request "1"')), busy),
    'nothing',
    'once',
  );
  t.equal(plan(written(said('2', 'pending', 'x')), answers({ power: said('1', 'done') })), 'say 2 running');
  t.equal(plan({ request: '{"id":"2","action":"stop","force":true}' }, busy), 'say 2 running');
  t.end();
});

void t.test('without a VM that answers a request waits', (t) => {
  t.match(plan({ request }, undefined), /pending: waiting for the pod’s VM to be made/);
  t.match(plan({ request }, { t: 'silent', vm }), /pending: .*shim, which does not answer/);
  t.match(plan({ request }, { t: 'ended', vm, reason: '' }), /pending: .*it has ended/);
  t.equal(plan({ request }, { t: 'new', vm }), 'nothing', 'for a moment');
  t.equal(plan(written(said('2', 'running')), { t: 'silent', vm }), 'nothing');
  t.end();
});

void t.test('a VM made since a request was handed over is not given it again', (t) => {
  const anew = answers({ vm: { ...vm, createdAt: Date.parse(BEFORE) + 1 } });
  t.match(plan(written(said('2', 'running')), anew), /^say 2 failed: the VM was made anew/);
  t.equal(plan(written(said('2', 'pending')), anew), 'say 2 running', 'one that was not handed over is');
  t.end();
});

void t.test('one that was handed over stays so: only the VM knows whether it was done', (t) => {
  const handed = written(said('2', 'running'));
  const busy = answers({ power: said('1', 'running') });
  t.equal(plan(handed, busy), 'ask 2', 'of a VM that is busy as well, by an agent that did not ask');
  const anew = answers({
    vm: { ...vm, createdAt: Date.parse(BEFORE) + 1 },
    power: said('1', 'running'),
  });
  t.match(plan(handed, anew), /^say 2 failed: the VM was made anew/);
  t.end();
});

void t.test('a request that cannot be read fails once, and one of a pod that goes is left', (t) => {
  t.match(plan({ request: '{"id":"3"}' }, answers()), /^say 3 failed: "action" is missing/);
  const { answer } = planPod(pod({ request: '{"id":"3"}' }), answers(), undefined, NOW);
  t.equal(plan({ request: '{"id":"3"}', status: JSON.stringify(answer) }, answers()), 'nothing');
  t.equal(plan({ request, deleting: true }, answers()), 'nothing');
  t.end();
});

void t.test('the condition follows the VM and stays where nobody can tell', (t) => {
  const condition = (view: VmView | undefined, poweredOn?: PodView['poweredOn']) =>
    planPod(pod({ poweredOn }), view, undefined, NOW).condition;
  t.same(condition(answers()), on);
  t.equal(condition(answers(), on), undefined);
  t.same(condition(answers({ powerState: 'off' }), on), {
    status: 'False',
    reason: 'PoweredOff',
    message: '',
  });
  t.equal(condition({ t: 'silent', vm }, on), undefined, 'a guest goes on without its shim');
  t.equal(condition(undefined, on), undefined);
  t.match(condition({ t: 'ended', vm, reason: 'why' }, on), {
    status: 'False',
    reason: 'Ended',
    message: 'why',
  });
  t.end();
});
