import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import type { SpawnedProcess } from '../../../src/host/host.ts';
import type { ConsoleHub } from '../../../src/shim/console/console-hub.ts';
import { parseStdio } from '../../../src/shim/console/stdio-plan.ts';
import { TaskStdio, type TaskStdioOptions } from '../../../src/shim/console/task-stdio.ts';
import { Collector, inLab, type Lab, numbered } from './console-lab.ts';

const MiB = 1 << 20;

/** Opens stdout on a logger that is this shell script. */
async function open(
  lab: Lab,
  hub: ConsoleHub,
  script: string,
  options: Partial<TaskStdioOptions & { signal: AbortSignal }> = {},
): Promise<{ io: TaskStdio; child: SpawnedProcess }> {
  const path = lab.path('logger');
  writeFileSync(path, `#!/bin/sh\ndir=${lab.dir}\n${script}\n`);
  chmodSync(path, 0o755);
  const started: SpawnedProcess[] = [];
  const spawn = lab.host.spawn.bind(lab.host);
  lab.host.spawn = (plan) => {
    const child = spawn(plan);
    started.push(child);
    return child;
  };
  const uri = `binary://${path}?key=va%20lue&flag=`;
  const plan = parseStdio({ stdin: '', stdout: uri, stderr: uri, terminal: false });
  const defaults = {
    id: 'c1',
    namespace: 'ns',
    scratchDir: lab.dir,
    report: lab.report,
    signal: new AbortController().signal,
  };
  const io = lab.use(await TaskStdio.open(lab.host, hub, plan, { ...defaults, ...options }));
  return { io, child: started[0]! };
}

void t.test('a logger gets its arguments, its environment, all output, and the end of both streams', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const { io, child } = await open(
      lab,
      hub,
      'echo "$#:$1:$2:$3:$CONTAINER_ID:$CONTAINER_NAMESPACE" >$dir/args\necho >&5\nexec 5>&-\ncat <&3 >$dir/out\ncat <&4 >$dir/err\ntouch $dir/done',
    );
    const burst = numbered(2 * MiB);
    await qemu.print(burst);
    await qemu.exit();
    await io.finish();
    await io[Symbol.asyncDispose]();
    t.same(await child.exited, { kind: 'exited', code: 0 });
    t.equal(readFileSync(lab.path('args'), 'utf8'), '3:key:va lue:flag:c1:ns\n');
    t.ok(readFileSync(lab.path('out')).equals(burst));
    t.equal(readFileSync(lab.path('err'), 'utf8'), '');
    t.ok(existsSync(lab.path('done')));
    t.same(
      readdirSync(lab.dir).filter((name) => name.startsWith('logger-')),
      [],
    );
    t.same(lab.reports, []);
  }),
);

void t.test('closing descriptor 5 says ready as well', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const { io } = await open(lab, hub, 'exec 5>&-\ncat <&3 >$dir/out');
    await qemu.print('text');
    await qemu.exit();
    await io.finish();
    await io[Symbol.asyncDispose]();
    t.equal(readFileSync(lab.path('out'), 'utf8'), 'text');
  }),
);

void t.test('a logger that ends before it is ready fails Create', (t) =>
  inLab(t, async (lab) => {
    const { hub } = await lab.console();
    await t.rejects(open(lab, hub, 'exit 3'), {
      kind: 'FailedPrecondition',
      message:
        /cannot start the logger .*: stdout: the logger .* ended before it was ready to take output; run it by hand/,
    });
  }),
);

void t.test('Create’s deadline holds for a logger that is never ready', (t) =>
  inLab(t, async (lab) => {
    const { hub } = await lab.console();
    const deadline = new AbortController();
    const up = lab.use(Collector.fifo(await lab.fifo('up')));
    const opening = open(lab, hub, 'echo up >$dir/up\ncat <&3', { signal: deadline.signal });
    await up.untilText('up');
    deadline.abort();
    await t.rejects(opening, { message: /cannot start the logger .*: the call was canceled/ });
  }),
);

void t.test('a logger that dies is told of, the console goes on', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const { io, child } = await open(lab, hub, 'echo >&5\nhead -c 3 <&3 >/dev/null');
    await qemu.print('end');
    await child.exited;
    const viewer = lab.use(hub.attach());
    await qemu.print('more');
    for await (const chunk of viewer.output) {
      t.equal(Buffer.from(chunk).toString(), 'more');
      break;
    }
    await qemu.exit();
    await io.finish();
    t.match(lab.reports, [/logger .* has ended, output goes to the console log only: nobody reads it/]);
    t.equal(readFileSync(lab.path('console.log'), 'utf8'), 'endmore');
  }),
);

void t.test('a logger that does not end by itself is terminated, then killed', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    await lab.fifo('silence');
    const script =
      'trap "touch $dir/term" TERM\nexec 6<>$dir/silence\necho >&5\nwhile :; do read x <&6; done';
    const { io, child } = await open(lab, hub, script, { settleMs: 20, terminateMs: 1000 });
    await qemu.exit();
    await io.finish();
    await io[Symbol.asyncDispose]();
    t.same(await child.exited, { kind: 'signaled', signal: 9 });
    t.ok(existsSync(lab.path('term')));
  }),
);
