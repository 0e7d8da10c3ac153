import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import t from 'tap';
import { ConsoleHub } from '../../src/shim/console/console-hub.ts';
import { parseStdio } from '../../src/shim/console/stdio-plan.ts';
import { TaskStdio } from '../../src/shim/console/task-stdio.ts';
import { Collector, inLab, type Lab, Typist } from '../unit/console/console-lab.ts';

const ROUNDS = 4;

/**
 * A guest of 79 bytes, a boot sector at 0000:7c00: prints "READY\n", then ROUNDS times 64 KiB in which every byte is one
 * less than the byte before, then echoes what is typed until a `q`, on which it makes QEMU exit (isa-debug-exit).
 */
function bootSector(): Buffer {
  const code = [
    '31c0 8ed8 8ed0 bc007c fc', // ax = ds = ss = 0, sp below the sector
    'be4f7c', // si = text
    'ac 84c0 7405 e82c00 ebf6', // print si until NUL
    `bb0${ROUNDS}00`, // bx = rounds
    '31c9', // cx = 65536 turns
    '88c8 e82000 e2f9', // print cl
    '4b 75f4',
    'bafd03 ec a801 74fb b2f8 ec', // al = next typed byte
    '3c71 7405 e80900 ebec', // unless q: print it, again
    'ba0105 ee f4 ebfd', // out 0x501
    '50 bafd03 ec a820 74fb 58 b2f8 ee c3', // putc: waits until the transmitter is empty
  ];
  const sector = Buffer.alloc(512);
  sector.write(code.join('').replaceAll(' ', ''), 'hex');
  sector.write('READY\n\0', 0x4f);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

function expected(): Buffer {
  const round = Buffer.from(Array.from({ length: 65536 }, (_, i) => (0x10000 - i) & 0xff));
  return Buffer.concat([Buffer.from('READY\n'), ...Array.from({ length: ROUNDS }, () => round)]);
}

/** QEMU, paused before the guest's first instruction; it connects to us for its monitor, which says that it is up. */
async function startQemu(lab: Lab): Promise<{ monitor: Socket; exited: Promise<unknown> }> {
  writeFileSync(lab.path('disk'), bootSector());
  const server = createServer().listen(lab.path('qmp.sock'));
  await once(server, 'listening');
  const child = spawn(
    'qemu-system-x86_64',
    [
      '-machine pc -accel tcg -m 16 -nodefaults -no-user-config -display none -S',
      `-drive file=${lab.path('disk')},format=raw,if=ide -device isa-debug-exit`,
      `-chardev socket,id=console,path=${lab.path('console.sock')},server=on,wait=off -serial chardev:console`,
      `-qmp unix:${lab.path('qmp.sock')}`,
    ].flatMap((line) => line.split(' ')),
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const exited = once(child, 'exit');
  lab.use({
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  });
  const [monitor] = (await once(server, 'connection')) as [Socket];
  server.close();
  const qmp = lab.use(new Collector(monitor));
  await qmp.untilText('"QMP"');
  return { monitor, exited };
}

void t.test('a guest’s serial line, from the first byte to the last', (t) =>
  inLab(t, async (lab) => {
    const { monitor, exited } = await startQemu(lab);
    const { signal } = new AbortController();
    const hub = lab.use(await ConsoleHub.connect(lab.path('console.sock'), lab.spool(), { signal }));
    const [stdin, stdout] = [await lab.fifo('stdin'), await lab.fifo('stdout')];
    const plan = parseStdio({ stdin, stdout, stderr: '', terminal: true });
    const options = { id: 'vm', namespace: 'default', scratchDir: lab.dir, report: lab.report, signal };
    const io = lab.use(await TaskStdio.open(lab.host, hub, plan, options));
    const out = lab.use(Collector.fifo(stdout));
    const typist = new Typist(stdin);
    typist.type('typed before the start,');

    monitor.write('{"execute":"qmp_capabilities"}{"execute":"cont"}');
    hub.openInput();
    await out.untilText('typed before the start,');
    typist.type('and after.');
    await out.untilText('and after.');
    typist[Symbol.dispose]();
    io.closeStdin();
    const viewer = lab.use(hub.attach({ replayBytes: 10 }));
    await viewer.write(Buffer.from('bye'));
    await out.untilText('bye');
    await viewer.write(Buffer.from('q'));

    await exited;
    await io.finish();
    await out.ended;
    const all = Buffer.concat([expected(), Buffer.from('typed before the start,and after.bye')]);
    t.ok(out.bytes.equals(all), 'stdout has every byte');
    t.ok(readFileSync(lab.path('console.log')).equals(all), 'and so has the log');
    let seen = '';
    for await (const chunk of viewer.output) seen += Buffer.from(chunk).toString();
    t.equal(seen, 'and after.bye');
    t.same(lab.reports, []);
  }),
);
