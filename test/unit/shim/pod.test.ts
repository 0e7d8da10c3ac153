import { setImmediate as turn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import type { TaskExit } from '../../../src/core/exit.ts';
import { EventPublisher } from '../../../src/shim/event-publisher.ts';
import { Pod } from '../../../src/shim/pod.ts';
import { Sandbox } from '../../../src/shim/sandbox.ts';
import type { Task, TaskStatus } from '../../../src/shim/task.ts';
import { TaskEvents } from '../../../src/shim/task-events.ts';
import type { TaskRequest } from '../../../src/shim/task-request.ts';
import { recordingLogger } from '../../support/recording-logger.ts';
import { refused } from '../../support/refused.ts';

const never = new AbortController().signal;
const killed: TaskExit = { status: 137, at: 1000, reason: { kind: 'killed', signal: 9 } };

const request = (id: string): TaskRequest => ({
  id,
  bundle: `/b/${id}`,
  terminal: false,
  stdin: '',
  stdout: '',
  stderr: '',
  rootfs: [],
  options: { typeUrl: '', value: new Uint8Array() },
});

const nobodyAsks = (): never => {
  throw new Error('nobody asks');
};

/** A task without a machine: the test says when it ends and how its release goes. */
class FakeTask implements Task {
  readonly request: TaskRequest;
  readonly pid = 42;
  status: TaskStatus = 'created';
  exit: TaskExit | undefined;
  released = 0;
  releaseError: VmError | undefined;
  readonly #end = Promise.withResolvers<TaskExit>();

  constructor(of: TaskRequest) {
    this.request = of;
  }

  get id(): string {
    return this.request.id;
  }

  get stopped(): Promise<TaskExit> {
    return this.#end.promise;
  }

  end(exit: TaskExit = killed): void {
    if (this.exit !== undefined) return;
    this.exit = exit;
    this.status = 'stopped';
    this.#end.resolve(exit);
  }

  async start(_signal: AbortSignal, started: () => void): Promise<void> {
    await turn();
    this.status = 'running';
    started();
  }

  async delete(): Promise<TaskExit> {
    await this.release();
    return await this.stopped;
  }

  async release(): Promise<void> {
    await turn();
    this.released++;
    if (this.releaseError !== undefined) throw this.releaseError;
    this.end();
  }

  /** Signals it got; what it does then the test says. */
  readonly signals: number[] = [];
  onSignal: (signal: number) => void = () => undefined;

  kill(signal: number): Promise<void> {
    if (this.exit !== undefined) return Promise.reject(new VmError('NotFound', 'process already finished'));
    this.signals.push(signal);
    this.onSignal(signal);
    return Promise.resolve();
  }

  pause = (): Promise<void> => Promise.resolve();
  resume = (): Promise<void> => Promise.resolve();
  stall: (stalled: boolean) => void = () => undefined;
  watchStalls(listener: (stalled: boolean) => void): void {
    this.stall = listener;
  }
  update = (): Promise<void> => Promise.resolve();
  metrics = nobodyAsks;
  closeStdin = (): void => undefined;
  resize = (): void => undefined;
}

/** What making a sandbox fails with. */
let sandboxError: VmError | undefined;

/** A pod whose tasks come when the test says so. */
function pod(t: Test) {
  const tasks: FakeTask[] = [];
  const topics: string[] = [];
  const life: string[] = [];
  const creating: { readonly signal: AbortSignal; readonly done: PromiseWithResolvers<undefined> }[] = [];
  const log = recordingLogger();
  const publisher = new EventPublisher((event) => Promise.resolve(void topics.push(event.topic)), log);
  const made = new Pod({
    make: {
      task: async (of, signal) => {
        const done = Promise.withResolvers<undefined>();
        creating.push({ signal, done });
        await done.promise;
        const task = new FakeTask(of);
        tasks.push(task);
        return task;
      },
      sandbox: (of) => {
        if (sandboxError !== undefined) throw sandboxError;
        return new Sandbox({ ...of, resolvConf: undefined, metrics: nobodyAsks });
      },
    },
    events: new TaskEvents(publisher),
    log,
    onBusy: () => void life.push('busy'),
    onEmpty: () => void life.push('empty'),
  });
  /** Creates a task to the end. */
  const create = async (id: string): Promise<FakeTask> => {
    const created = made.create(request(id), never);
    creating.at(-1)?.done.resolve(undefined);
    await created;
    return tasks.at(-1)!;
  };
  t.teardown(() => publisher.drained(AbortSignal.timeout(1000)));
  const seen = async (): Promise<string[]> => {
    await turn();
    await publisher.drained(never);
    return topics;
  };
  return { pod: made, create, creating, tasks, seen, life };
}

void t.test('the life of a task, as events', async (t) => {
  const { pod: made, create, seen, life } = pod(t);
  const task = await create('a');
  t.same(made.tasks(), [task]);
  t.equal(made.find('a'), task);
  await made.start('a', '', never);
  await made.pause('a', never);
  await made.resume('a', never);
  task.end();
  t.match(await made.delete('a', ''), { task, exit: killed });
  t.same(
    await seen(),
    ['create', 'start', 'paused', 'resumed', 'exit', 'delete'].map((name) => `/tasks/${name}`),
  );
  t.same(life, ['busy', 'empty']);
});

void t.test('a task that is deleted without having run has an exit before its delete', async (t) => {
  const { pod: made, create, seen } = pod(t);
  await create('a');
  await made.delete('a', '');
  t.same(await seen(), ['/tasks/create', '/tasks/exit', '/tasks/delete']);
});

void t.test('who is not there', async (t) => {
  const { pod: made, create, creating } = pod(t);
  t.throws(() => made.task('a'), { kind: 'NotFound', message: /container "a" is not created/ });
  await refused(t, made.start('a', '', never), 'NotFound');
  await refused(t, made.delete('a', ''), 'NotFound');
  const pending = made.create(request('a'), never);
  t.throws(() => made.task('a'), { kind: 'NotFound', message: /not created/ }, 'not yet');
  t.notOk(made.empty, 'but on its way');
  await refused(t, made.create(request('a'), never), 'AlreadyExists');
  creating[0]?.done.resolve(undefined);
  await pending;
  t.throws(() => made.task('a', 'e'), {
    kind: 'NotFound',
    message: /exec "e" does not exist in container "a"/,
  });
  await create('b');
  t.equal(made.tasks().length, 2);
});

void t.test('a Create that fails is forgotten', async (t) => {
  const { pod: made, create, creating, seen, life } = pod(t);
  const pending = refused(t, made.create(request('a'), never), 'ResourceExhausted', /no memory/);
  creating[0]?.done.reject(new VmError('ResourceExhausted', 'no memory'));
  await pending;
  t.ok(made.empty);
  t.same(life, ['busy', 'empty']);
  t.same(await seen(), []);
  await create('a');
});

void t.test('a Create that ends after its caller has gone is undone', async (t) => {
  const { pod: made, creating, tasks, seen } = pod(t);
  const caller = new AbortController();
  const pending = refused(t, made.create(request('a'), caller.signal), 'Canceled', /created too late/);
  caller.abort(new VmError('Canceled', 'the client has closed the connection'));
  t.ok(creating[0]?.signal.aborted, 'it is told');
  creating[0]?.done.resolve(undefined);
  await pending;
  t.equal(tasks[0]?.released, 1);
  t.ok(made.empty);
  t.same(await seen(), []);
});

void t.test('Delete calls off a Create and waits until it is undone', async (t) => {
  const { pod: made, creating, tasks } = pod(t);
  const pending = refused(
    t,
    made.create(request('a'), never),
    'Canceled',
    /deleted while it was being created/,
  );
  let deleted = false;
  const deleting = refused(t, made.delete('a', ''), 'NotFound').then(() => (deleted = true));
  t.ok(creating[0]?.signal.aborted);
  await turn();
  t.notOk(deleted);
  creating[0]?.done.resolve(undefined);
  await Promise.all([pending, deleting]);
  t.equal(tasks[0]?.released, 1);
  await refused(t, made.delete('a', 'e'), 'NotFound');
});

void t.test('two Deletes at once are one, with one answer', async (t) => {
  const { pod: made, create, seen } = pod(t);
  const task = await create('a');
  const [first, second] = await Promise.all([made.delete('a', ''), made.delete('a', '')]);
  t.same(first.exit, second.exit);
  t.equal(task.released, 1);
  t.same((await seen()).filter((topic) => topic === '/tasks/delete').length, 1);
  await refused(t, made.delete('a', ''), 'NotFound');
});

void t.test('a Delete that fails can be repeated', async (t) => {
  const { pod: made, create, seen } = pod(t);
  const task = await create('a');
  task.releaseError = new VmError('DeadlineExceeded', 'the cgroup is busy');
  await refused(t, made.delete('a', ''), 'DeadlineExceeded');
  t.equal(made.find('a'), task, 'it is still there');
  task.releaseError = undefined;
  await made.delete('a', '');
  t.same((await seen()).at(-1), '/tasks/delete');
});

void t.test('a pod that is closed takes nothing new', async (t) => {
  const { pod: made } = pod(t);
  made.close();
  await refused(t, made.create(request('a'), never), 'Unavailable', /this shim is ending/);
  t.ok(made.empty);
});

const sandboxRequest = { id: 's', bundle: '/b/s', netns: undefined, pod: undefined };

void t.test('a sandbox of the sandbox API keeps the shim, and is the only one', async (t) => {
  const { pod: made, create, life } = pod(t);
  const sandbox = made.createSandbox(sandboxRequest);
  t.equal(made.sandbox, sandbox);
  t.notOk(made.empty);
  t.same(made.tasks(), [], 'it is no task');
  t.throws(() => made.createSandbox({ ...sandboxRequest, id: 'x' }), {
    kind: 'AlreadyExists',
    name: 'VmError',
  });
  await create('a');
  await made.delete('a', '');
  t.notOk(made.empty);
  await made.releaseAll();
  t.ok(made.empty);
  t.same(life, ['busy', 'busy'], 'not idle for a moment');
  made.close();
  t.throws(() => made.createSandbox(sandboxRequest), { kind: 'Unavailable', name: 'VmError' });
});

void t.test('a sandbox that cannot be made is none', (t) => {
  const { pod: made } = pod(t);
  sandboxError = new VmError('InvalidArgument', 'unknown annotation');
  t.throws(() => made.createSandbox(sandboxRequest), { kind: 'InvalidArgument', name: 'VmError' });
  sandboxError = undefined;
  t.ok(made.empty);
  made.createSandbox(sandboxRequest);
  t.end();
});

void t.test('to stop all is the power button, then the plug', async (t) => {
  const { pod: made, create } = pod(t);
  const [willing, deaf, ended] = [await create('a'), await create('b'), await create('c')];
  willing.onSignal = () => willing.end();
  deaf.onSignal = (signal) => {
    if (signal === 9) deaf.end();
  };
  ended.end();
  await made.stopAll(1, never);
  t.same([willing.signals, deaf.signals, ended.signals], [[15], [15, 9], []]);
  t.equal(made.tasks().length, 3, 'they are there until they are deleted');
});

void t.test('to stop all without grace is the plug alone', async (t) => {
  const { pod: made, create } = pod(t);
  const task = await create('a');
  task.onSignal = () => task.end();
  await made.stopAll(0, never);
  t.same(task.signals, [9]);
});

void t.test('who gives up waiting for the stop hears why, and another may go on', async (t) => {
  const { pod: made, create } = pod(t);
  const task = await create('a');
  const caller = new AbortController();
  const patient = refused(t, made.stopAll(1e12, caller.signal), 'Canceled', /gone/);
  await turn();
  caller.abort(new VmError('Canceled', 'the client has gone'));
  await patient;
  t.same(task.signals, [15]);
  const again = made.stopAll(1e12, never);
  task.onSignal = () => task.end();
  await made.stopAll(0, never);
  await again;
  t.same(task.signals, [15, 15, 9]);
});

void t.test('to stop or release all calls off what is being created', async (t) => {
  for (const effect of ['stopAll', 'releaseAll'] as const) {
    const { pod: made, creating, tasks } = pod(t);
    const pending = refused(t, made.create(request('a'), never), 'Canceled', /its pod was (stopped|removed)/);
    const done = made[effect](0, never);
    t.ok(creating[0]?.signal.aborted);
    creating[0]?.done.resolve(undefined);
    await Promise.all([pending, done]);
    t.equal(tasks[0]?.released, 1, effect);
  }
});

void t.test('to release all ends what runs, also twice at once and beside a Delete', async (t) => {
  const { pod: made, create, seen } = pod(t);
  await create('a');
  await made.start('a', '', never);
  await Promise.all([made.releaseAll(), made.releaseAll(), made.delete('a', '').catch(() => undefined)]);
  t.ok(made.empty);
  t.same((await seen()).filter((topic) => topic === '/tasks/delete').length, 1);
});
