import t from 'tap';
import type { ConsoleHub } from '../../../src/shim/console/console-hub.ts';
import { parseStdio } from '../../../src/shim/console/stdio-plan.ts';
import { TaskStdio } from '../../../src/shim/console/task-stdio.ts';
import { Collector, inLab, type Lab, numbered, Typist } from './console-lab.ts';

const MiB = 1 << 20;

async function open(lab: Lab, hub: ConsoleHub): Promise<{ io: TaskStdio; stdin: string }> {
  const stdin = await lab.fifo('stdin');
  const plan = parseStdio({ stdin, stdout: '', stderr: '', terminal: false });
  const signal = new AbortController().signal;
  const options = { id: 'c1', namespace: 'default', scratchDir: lab.dir, signal };
  return { io: lab.use(await TaskStdio.open(lab.host, hub, plan, options)), stdin };
}

void t.test('input waits for the guest, then arrives in order', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const { stdin } = await open(lab, hub);
    const guest = new Collector(await qemu.socket);
    using typist = new Typist(stdin);
    typist.type('early ');
    const viewer = lab.use(hub.attach());
    const written = viewer.write(Buffer.from('viewer '));
    await qemu.print('x');
    for await (const chunk of viewer.output) {
      t.equal(Buffer.from(chunk).toString(), 'x');
      break;
    }
    t.equal(guest.total, 0, 'nothing was typed into a guest that does not run');
    hub.openInput();
    await written;
    await guest.until(() => guest.text.includes('early ') && guest.text.includes('viewer '));
    typist.type('late');
    await guest.untilText('late');
    t.equal(guest.total, 'early viewer late'.length);
  }),
);

void t.test('a client may leave and return: input ends with CloseIO only, and the guest sees no end', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const { io, stdin } = await open(lab, hub);
    const guest = new Collector(await qemu.socket);
    hub.openInput();
    {
      using first = new Typist(stdin);
      first.type('one');
      await guest.untilText('one');
    }
    using second = new Typist(stdin);
    second.type('two');
    await guest.untilText('onetwo');
    io.closeStdin();
    io.closeStdin();
    second.type('three');
    await guest.untilText('onetwothree');
    const viewer = lab.use(hub.attach());
    await viewer.write(Buffer.from('!'));
    await guest.untilText('three!');
    t.notOk(guest.socket.readableEnded);
  }),
);

void t.test('after CloseIO the fifo ends with its last writer', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const { io, stdin } = await open(lab, hub);
    const guest = new Collector(await qemu.socket);
    hub.openInput();
    {
      using typist = new Typist(stdin);
      typist.type('last words');
      io.closeStdin();
    }
    await guest.untilText('last words');
    // Opening for writing fails once our read end is gone: the way to see that input has ended.
    for (let open = true; open;) {
      try {
        new Typist(stdin)[Symbol.dispose]();
        await new Promise((resolve) => setImmediate(resolve));
      } catch {
        open = false;
      }
    }
    t.pass();
  }),
);

void t.test('a guest that does not read holds the typist up, and loses nothing', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const { stdin } = await open(lab, hub);
    const socket = await qemu.socket;
    socket.pause();
    hub.openInput();
    using typist = new Typist(stdin);
    const all = numbered(4 * MiB);
    let sent = 0;
    // Types until neither fifo nor socket takes any more for many turns of the event loop.
    for (let full = 0; full < 200 && sent < all.length;) {
      try {
        sent += typist.type(all.subarray(sent, sent + 4096));
        full = 0;
      } catch {
        full++;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    t.ok(sent < 2 * MiB, `${sent} bytes are on their way`);
    const guest = new Collector(socket);
    socket.resume();
    await guest.until(() => guest.total === sent);
    t.ok(guest.bytes.equals(all.subarray(0, sent)));
  }),
);

void t.test('the end of the VM ends input', (t) =>
  inLab(t, async (lab) => {
    const { hub, qemu } = await lab.console();
    const { io, stdin } = await open(lab, hub);
    const viewer = lab.use(hub.attach());
    const early = viewer.write(Buffer.from('never typed'));
    await qemu.exit();
    await t.rejects(early, { message: /the console has ended because the VM is not running/ });
    await io.finish();
    t.throws(() => new Typist(stdin), { code: 'ENXIO' });
    await t.rejects(hub.write(Buffer.from('x')), { message: /the console has ended/ });
  }),
);

void t.test('stdin is closed also when the guest never started', (t) =>
  inLab(t, async (lab) => {
    const { hub } = await lab.console();
    const { io, stdin } = await open(lab, hub);
    await io[Symbol.asyncDispose]();
    hub.openInput();
    t.throws(() => new Typist(stdin), { code: 'ENXIO' });
  }),
);
