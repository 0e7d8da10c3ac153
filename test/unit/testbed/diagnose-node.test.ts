import { appendFileSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { diagnoseNode } from '../../../scripts/node/diagnose-node.ts';
import { FakeQemu } from '../../support/fake-qemu.ts';
import { tempDir } from '../../support/temp-dir.ts';

void t.test('registers, then SysRq on the console, then an NMI', async (t) => {
  const qemu = await FakeQemu.start(t);
  qemu.on('human-monitor-command', (command) => ({
    return: `answer to ${String(command.arguments?.['command-line'])}`,
  }));
  qemu.on('chardev-send-break', () => ({ return: {} }));
  const directory = tempDir(t);
  const consoleLog = join(directory, 'console.log');
  writeFileSync(consoleLog, 'of the boot\n');
  const nmi = Promise.withResolvers<undefined>();
  qemu.on('inject-nmi', () => {
    nmi.resolve(undefined);
    return { return: {} };
  });
  const server = createServer((socket) => {
    socket.on('data', (keys) => appendFileSync(consoleLog, `keys ${keys.toString()}\n`));
  }).listen(join(directory, 'console'));
  t.teardown(() => server.close());
  await once(server, 'listening');

  const eyes = { monitor: qemu.path, console: join(directory, 'console'), consoleLog };
  const found = await diagnoseNode(eyes, { answerMs: 100, monitorMs: 60_000 });
  await nmi.promise;
  t.match(found, /\(qemu\) info lapic 1\nanswer to info lapic 1\n/);
  t.match(found, /its kernel:\nkeys 9/);
  t.notMatch(found, /of the boot/);
  t.equal(qemu.commands.filter(({ execute }) => execute === 'chardev-send-break').length, 6);
});

void t.test('of a QEMU that is gone, or hangs, it says so', async (t) => {
  const patience = { answerMs: 1, monitorMs: 100 };
  const eyes = { monitor: '/nowhere/monitor', console: '/nowhere/console', consoleLog: '/nowhere/log' };
  t.match(await diagnoseNode(eyes, patience), /^no more can be asked: .*ENOENT/);
  const qemu = await FakeQemu.start(t);
  qemu.on('human-monitor-command', () => 'silence');
  t.match(await diagnoseNode({ ...eyes, monitor: qemu.path }, patience), /^no more can be asked: /);
});
