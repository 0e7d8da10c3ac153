import { writeFileSync } from 'node:fs';
import t from 'tap';
import { ConsoleHub } from '../../../src/shim/console/console-hub.ts';
import type { ConsoleAttachment } from '../../../src/shim/console/console-viewer.ts';
import { parseStdio } from '../../../src/shim/console/stdio-plan.ts';
import { TaskStdio } from '../../../src/shim/console/task-stdio.ts';
import { Collector, FakeConsole, inLab, numbered, Typist } from './console-lab.ts';

const MiB = 1 << 20;

async function readUntil(viewer: ConsoleAttachment, enough: (text: string) => boolean): Promise<string> {
  let text = '';
  for (const output = viewer.output[Symbol.asyncIterator](); !enough(text);) {
    const step = await output.next();
    if (step.done === true) break;
    text += Buffer.from(step.value).toString('latin1');
  }
  return text;
}

const toTheEnd = (viewer: ConsoleAttachment): Promise<string> => readUntil(viewer, () => false);

void t.test('viewers see the past they ask for and all that follows, and type', (t) =>
  inLab(t, async (lab) => {
    writeFileSync(lab.path('console.log'), 'last boot|');
    const { hub, qemu } = await lab.console();
    hub.openInput();
    const guest = new Collector(await qemu.socket);
    const first = lab.use(hub.attach());
    await qemu.print('past');
    t.equal(await readUntil(first, (text) => text.length >= 4), 'past');
    const [second, third] = [
      lab.use(hub.attach({ replayBytes: 4 })),
      lab.use(hub.attach({ replayBytes: MiB })),
    ];
    await qemu.print('|now');
    t.equal(await readUntil(second, (text) => text.endsWith('now')), 'past|now');
    t.equal(await readUntil(third, (text) => text.endsWith('now')), 'last boot|past|now');
    await first.write(Buffer.from('a'));
    await second.write(Buffer.from('b'));
    await guest.untilText('ab');
    second[Symbol.dispose]();
    await t.rejects(second.write(Buffer.from('c')), { message: /view of the console was closed/ });
    await qemu.print('|end');
    await qemu.exit();
    t.equal(await toTheEnd(first), '|now|end');
    t.equal(await toTheEnd(third), '|end');
    t.equal(await toTheEnd(second), '');
  }),
);

void t.test('a slow viewer misses the oldest, sees that it did, and delays nobody', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const [slow, quick] = [
      lab.use(hub.attach({ maxLagBytes: MiB })),
      lab.use(hub.attach({ maxLagBytes: 16 * MiB })),
    ];
    const all = numbered(4 * MiB).toString('latin1');
    const seen = readUntil(quick, (text) => text.length >= all.length);
    await qemu.print(all);
    t.ok((await seen) === all);
    const text = await readUntil(slow, (found) => found.length > MiB);
    const marker = `\n[vmshim: ${3 * MiB} bytes of console output skipped]\n`;
    t.ok(text === marker + all.slice(3 * MiB));
  }),
);

void t.test('leaving the loop, and disposing while it waits, end a view', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const [left, waiting] = [hub.attach(), hub.attach()];
    await qemu.print('x');
    for await (const chunk of left.output) {
      t.equal(Buffer.from(chunk).toString(), 'x');
      break;
    }
    t.equal(await toTheEnd(left), '');
    t.equal(await readUntil(waiting, (text) => text === 'x'), 'x');
    const end = toTheEnd(waiting);
    waiting[Symbol.dispose]();
    t.equal(await end, '');
    const cut = lab.use(hub.attach());
    const rest = toTheEnd(cut);
    await hub[Symbol.asyncDispose]();
    t.equal(await rest, '');
  }),
);

void t.test('a console that cannot be reached', (t) =>
  inLab(t, async (lab) => {
    const { signal } = new AbortController();
    const spool = lab.use(lab.spool());
    await t.rejects(ConsoleHub.connect(lab.path('absent.sock'), spool, { signal }), {
      message: /cannot connect to the console .*absent.sock: connect ENOENT/,
    });
    await t.rejects(ConsoleHub.connect(`/${'x'.repeat(107)}`, spool, { signal }), {
      message: /longer than 107 bytes: choose a shorter state_dir/,
    });
    const qemu = lab.use(new FakeConsole(lab.path('q.sock')));
    void qemu.listen();
    await t.rejects(ConsoleHub.connect(qemu.path, spool, { signal: AbortSignal.abort() }), {
      name: 'AbortError',
    });
    lab.use(await ConsoleHub.connect(qemu.path, spool, { signal }));
  }),
);

void t.test('the guest’s last words arrive although QEMU left input unread', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    hub.openInput();
    const socket = await qemu.socket;
    socket.pause();
    await hub.write(Buffer.from('not read by anyone'));
    const viewer = lab.use(hub.attach());
    const last = numbered(64 << 10);
    socket.write(last);
    socket.destroy();
    await hub.ended;
    t.equal(await toTheEnd(viewer), last.toString('latin1'));
  }),
);

void t.test('input that nobody takes does not delay the end', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    hub.openInput();
    const socket = await qemu.socket;
    socket.pause();
    const stuck = t.rejects(hub.write(Buffer.alloc(4 * MiB)), { message: /the console has ended/ });
    // QEMU's side says that it is done and stays open without reading.
    socket.end('last');
    await hub.ended;
    await stuck;
  }),
);

void t.test('180 consoles at once', (t) =>
  inLab(t, async (lab) => {
    const { signal } = new AbortController();
    const names = Array.from({ length: 180 }, (_, i) => `vm${i}`);
    await lab.host.exec(
      'mkfifo',
      names.flatMap((n) => [lab.path(`${n}-in`), lab.path(`${n}-out`)]),
    );
    const consoles = await Promise.all(
      names.map(async (name) => {
        const qemu = lab.use(await new FakeConsole(lab.path(`${name}.sock`)).listen());
        const hub = lab.use(await ConsoleHub.connect(qemu.path, lab.spool(), { signal }));
        hub.openInput();
        const [stdin, stdout] = [lab.path(`${name}-in`), lab.path(`${name}-out`)];
        const plan = parseStdio({ stdin, stdout, stderr: '', terminal: true });
        const options = { id: name, namespace: 'default', scratchDir: lab.dir, signal };
        const io = lab.use(await TaskStdio.open(lab.host, hub, plan, options));
        (await qemu.socket).on(
          'data',
          (typed: Buffer) => void qemu.print(`${name} echoes ${typed.toString()}`),
        );
        return { name, qemu, io, out: lab.use(Collector.fifo(stdout)), typist: lab.use(new Typist(stdin)) };
      }),
    );
    for (const { typist } of consoles) typist.type('hi\n');
    await Promise.all(consoles.map(({ name, out }) => out.untilText(`${name} echoes hi\n`)));
    await Promise.all(consoles.map(({ qemu }) => qemu.exit()));
    await Promise.all(consoles.map(({ io }) => io.finish()));
    await Promise.all(consoles.map(({ out }) => out.ended));
    t.ok(consoles.every(({ name, out }) => out.text === `${name} echoes hi\n`));
  }),
);
