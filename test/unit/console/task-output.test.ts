import { createHash } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import t from 'tap';
import type { ConsoleHub } from '../../../src/shim/console/console-hub.ts';
import { parseStdio } from '../../../src/shim/console/stdio-plan.ts';
import { TaskStdio, type TaskStdioOptions } from '../../../src/shim/console/task-stdio.ts';
import { bufferBytes, Collector, inLab, type Lab, numbered } from './console-lab.ts';

const MiB = 1 << 20;

async function open(
  lab: Lab,
  hub: ConsoleHub,
  paths: { stdin?: string; stdout?: string; stderr?: string },
  options: Partial<TaskStdioOptions> = {},
): Promise<TaskStdio> {
  const plan = parseStdio({ stdin: '', stdout: '', stderr: '', terminal: false, ...paths });
  const signal = new AbortController().signal;
  const defaults = { id: 'c1', namespace: 'default', scratchDir: lab.dir, report: lab.report, signal };
  return lab.use(await TaskStdio.open(lab.host, hub, plan, { ...defaults, ...options }));
}

void t.test('output reaches the fifo, and every stream ends after finish', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const [stdout, stderr] = [await lab.fifo('stdout'), await lab.fifo('stderr')];
    const [out, err] = [lab.use(Collector.fifo(stdout)), lab.use(Collector.fifo(stderr))];
    const io = await open(lab, hub, { stdout, stderr });
    await qemu.print('hello ');
    await out.untilText('hello ');
    await qemu.print('world');
    await qemu.exit();
    await io.finish();
    await Promise.all([out.ended, err.ended]);
    t.equal(out.text, 'hello world');
    t.equal(err.text, '');
    t.equal(readFileSync(lab.path('console.log'), 'utf8'), 'hello world');
    await io.finish();
    t.same(lab.reports, []);
  }),
);

void t.test('a burst of 8 MiB just before the exit is complete and in order', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const stdout = await lab.fifo('stdout');
    const out = lab.use(Collector.fifo(stdout));
    const io = await open(lab, hub, { stdout });
    const burst = numbered(8 * MiB);
    await qemu.print(burst);
    await qemu.exit();
    await io.finish();
    await out.ended;
    t.ok(out.bytes.equals(burst));
  }),
);

void t.test(
  '64 MiB with a reader that sleeps: the guest is not held up, memory is bounded, no byte is lost',
  (t) =>
    inLab(t, async (lab) => {
      const { hub, qemu } = await lab.console({ bytes: 80 * MiB });
      const stdout = await lab.fifo('stdout');
      const out = lab.use(Collector.fifo(stdout));
      out.socket.pause();
      const io = await open(lab, hub, { stdout });
      const before = await bufferBytes();
      const [sent, received] = [createHash('sha256'), createHash('sha256')];
      const block = numbered(MiB);
      for (let i = 0; i < 64; i++) {
        block.write(String(i));
        sent.update(block);
        await qemu.print(block);
      }
      await qemu.exit();
      await hub.ended;
      // All of it was taken although nobody read.
      const held = (await bufferBytes()) - before;
      t.ok(held < 2 * MiB, `${held} bytes are held in memory`);
      out.socket.removeAllListeners('data');
      out.socket.on('data', (chunk: Buffer) => received.update(chunk));
      out.socket.resume();
      await io.finish();
      await out.ended;
      t.equal(received.digest('hex'), sent.digest('hex'));
    }),
);

void t.test('a reader further behind than the log reaches sees one line about it', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console({ bytes: MiB }, 4096);
    const stdout = await lab.fifo('stdout');
    const out = lab.use(Collector.fifo(stdout));
    out.socket.pause();
    const io = await open(lab, hub, { stdout });
    const all = numbered(8 * MiB);
    await qemu.print(all);
    await qemu.exit();
    await hub.ended;
    out.socket.resume();
    await io.finish();
    await out.ended;
    const marker = /\n\[vmshim: (\d+) bytes of console output skipped\]\n/g;
    const found = [...out.bytes.toString('latin1').matchAll(marker)];
    t.equal(found.length, 1);
    const skipped = Number(found[0]![1]);
    const [head, , tail] = out.bytes.toString('latin1').split(marker) as [string, string, string];
    t.equal(head.length + skipped + tail.length, all.length);
    t.equal(head, all.toString('latin1', 0, head.length));
    t.equal(tail, all.toString('latin1', head.length + skipped));
    t.ok(tail.length >= MiB);
  }),
);

void t.test('a reader that leaves and returns misses nothing', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const stdout = await lab.fifo('stdout');
    const first = Collector.fifo(stdout);
    const io = await open(lab, hub, { stdout });
    await qemu.print('before|');
    await first.untilText('before|');
    await first[Symbol.asyncDispose]();
    const meanwhile = numbered(MiB);
    await qemu.print(meanwhile);
    const second = lab.use(Collector.fifo(stdout));
    await second.until(() => second.total === MiB);
    await qemu.print('after');
    await qemu.exit();
    await io.finish();
    await second.ended;
    t.ok(second.bytes.equals(Buffer.concat([meanwhile, Buffer.from('after')])));
  }),
);

void t.test('without a reader finish ends at once', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const io = await open(lab, hub, { stdout: await lab.fifo('stdout') });
    await qemu.print(numbered(MiB));
    await qemu.exit();
    // The default patience of 10 s would exceed this test's.
    await io.finish();
    t.match(lab.reports, [/stdout .* has ended, output goes to the console log only: nobody reads it/]);
    t.equal(statSync(lab.path('console.log')).size, MiB);
  }),
);

void t.test('a reader that takes nothing is given up', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const stdout = await lab.fifo('stdout');
    lab.use(Collector.fifo(stdout)).socket.pause();
    const io = await open(lab, hub, { stdout }, { stallMs: 30 });
    await qemu.print(numbered(MiB));
    await qemu.exit();
    await io.finish();
    t.match(lab.reports, [/stdout .* closed before all was delivered: its reader took nothing for 30 ms/]);
  }),
);

void t.test('finish is cut short by its signal, while the console lives and while a reader is stuck', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const stdout = await lab.fifo('stdout');
    lab.use(Collector.fifo(stdout)).socket.pause();
    const io = await open(lab, hub, { stdout });
    const canceled = new AbortController();
    const done = io.finish({ signal: canceled.signal });
    await qemu.print(numbered(MiB));
    canceled.abort();
    await done;
    t.match(lab.reports, [/the wait for its reader was canceled/]);
  }),
);

void t.test('stdout and stderr may be files: file:// is made, a plain path must be there', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    writeFileSync(lab.path('plain'), 'old ');
    const made = await open(lab, hub, {
      stdout: `file://${lab.path('a/b/made.log')}`,
      stderr: lab.path('plain'),
    });
    const plain = await open(lab, hub, { stdout: lab.path('plain') });
    await qemu.print('text');
    await qemu.exit();
    await Promise.all([made.finish(), plain.finish()]);
    t.equal(readFileSync(lab.path('a/b/made.log'), 'utf8'), 'text');
    t.equal(statSync(lab.path('a/b/made.log')).mode & 0o777, 0o644);
    t.equal(statSync(lab.path('a/b')).mode & 0o777, 0o755);
    t.equal(readFileSync(lab.path('plain'), 'utf8'), 'old text');
  }),
);

void t.test('a file on a full disk does not stop the console', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const io = await open(lab, hub, { stdout: `file://${lab.path('out')}` });
    lab.host.room = 0;
    await qemu.print('lost');
    await qemu.exit();
    await io.finish();
    t.equal(lab.reports.length, 2);
    t.match(lab.reports[1], /stdout .*out does not take all output, the console log has it/);
  }),
);

void t.test('paths that are not there or are no streams fail with a sentence and leave nothing open', (t) =>
  inLab(t, async (lab) => {
    const { hub } = await lab.console();
    const stdout = await lab.fifo('stdout');
    await t.rejects(open(lab, hub, { stdout: lab.path('absent') }), {
      message: /stdout ".*absent" does not exist: the client/,
    });
    await t.rejects(open(lab, hub, { stdout: lab.dir }), { message: /stdout ".*" is a directory/ });
    await t.rejects(open(lab, hub, { stderr: lab.path('absent') }), { message: /stderr/ });
    await t.rejects(open(lab, hub, { stdout, stdin: lab.path('console.log') }), {
      message: /stdin ".*" is a file: give the path of a fifo/,
    });
  }),
);

void t.test('disposing without finish closes all at once', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const [stdin, stdout, stderr] = [
      await lab.fifo('stdin'),
      await lab.fifo('stdout'),
      await lab.fifo('stderr'),
    ];
    const io = await open(lab, hub, { stdin, stdout, stderr });
    hub.openInput();
    await qemu.print(numbered(MiB));
    await io[Symbol.asyncDispose]();
    await io[Symbol.asyncDispose]();
    await io.finish({ signal: AbortSignal.abort() });
  }),
);

void t.test('a size is recorded', (t) =>
  inLab(t, async (lab) => {
    const { hub } = await lab.console();
    const io = await open(lab, hub, {});
    t.equal(io.size, undefined);
    io.resize({ width: 80, height: 25 });
    t.same(io.size, { width: 80, height: 25 });
  }),
);
