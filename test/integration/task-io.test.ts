import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { burstBytes } from '../support/burst-bytes.ts';
import { refused } from '../support/refused.ts';
import { processEnded, ShimClient } from '../support/shim-client.ts';

const BURST = 8 << 20;

void t.test('a task’s output is complete before its exit is visible', async (t) => {
  const shims = await ShimClient.make(t);
  const options = shims.options(shims.configWithStandIn('burst', 'burst', String(BURST)));

  await t.test('a fifo, with a reader that takes its time', async (t) => {
    const shim = await shims.shim('fifo');
    const { id, task } = shim;
    const io = shims.io(id);
    const { pid } = await task.create({ id, bundle: shim.bundle, ...io.request, options });
    let exited = false;
    const exit = task.wait({ id }).then((reply) => {
      exited = true;
      return reply;
    });
    // Once it is stopped nobody reads what the guest prints.
    io.reader.kill('SIGSTOP');
    await task.start({ id });
    await processEnded(pid);
    t.match(await task.state({ id }), { status: 2 }, 'the VM has gone and its task runs on');
    await refused(t, task.delete({ id }), 'FailedPrecondition', /running/);
    t.notOk(exited);
    t.same(shims.events.topics(id).includes('exit'), false);
    io.reader.kill('SIGCONT');
    t.equal((await exit).exitStatus, 0);
    await io.ended;
    t.ok(Buffer.from(io.console.text, 'latin1').equals(burstBytes(BURST)), 'every byte in its place');
    await task.delete({ id });
    await shims.end(shim);
  });

  await t.test('file://, made with its directory and appended to', async (t) => {
    const log = join(shims.directory, 'logs/deep/er.log');
    for (const round of [1, 2]) {
      const shim = await shims.shim(`file-${round}`);
      const { id, task } = shim;
      const stdio = { stdout: `file://${log}`, stderr: `file://${log}` };
      await task.create({ id, bundle: shim.bundle, ...stdio, options });
      t.match(await task.state({ id }), stdio);
      const exit = task.wait({ id });
      await task.start({ id });
      await exit;
      t.equal(statSync(log).size, round * BURST, 'complete when Wait returns');
      await task.delete({ id });
      await shims.end(shim);
    }
    t.ok(readFileSync(log).equals(Buffer.concat([burstBytes(BURST), burstBytes(BURST)])));
    t.equal(statSync(log).mode & 0o777, 0o644);
  });

  await t.test('binary://, a logger with its arguments and environment', async (t) => {
    const directory = join(shims.directory, 'logger');
    mkdirSync(directory);
    const logger = join(directory, 'logger');
    const script = `#!/bin/sh
printf '%s\\n' "$@" >${directory}/args
printf '%s/%s\\n' "$CONTAINER_NAMESPACE" "$CONTAINER_ID" >${directory}/env
exec 5>&-
/bin/cat <&3 >${directory}/stdout
`;
    writeFileSync(logger, script, { mode: 0o755 });
    const shim = await shims.shim('logger');
    const { id, task } = shim;
    const uri = `binary://${logger}?path=/var/log/x&flag`;
    await task.create({ id, bundle: shim.bundle, stdout: uri, stderr: uri, options });
    const exit = task.wait({ id });
    await task.start({ id });
    await exit;
    t.ok(readFileSync(join(directory, 'stdout')).equals(burstBytes(BURST)));
    t.same(readFileSync(join(directory, 'args'), 'utf8'), 'path\n/var/log/x\nflag\n');
    t.same(readFileSync(join(directory, 'env'), 'utf8'), `${shims.namespace}/${id}\n`);
    await task.delete({ id });
    await shims.end(shim);
  });

  await t.test('a logger that dies before it is ready fails the Create and leaves nothing', async (t) => {
    const shim = await shims.shim('dead-logger');
    const { id, task } = shim;
    const create = { id, bundle: shim.bundle, options };
    await refused(
      t,
      task.create({ ...create, stdout: 'binary:///bin/false' }),
      'FailedPrecondition',
      /\/bin\/false/,
    );
    await refused(t, task.create({ ...create, stdout: `${shims.directory}/no-fifo` }), 'NotFound', /no-fifo/);
    await refused(t, task.create({ ...create, stdin: 'file:///etc/passwd' }), 'Unimplemented', /stdin/);
    await refused(t, task.delete({ id }), 'NotFound');
    await shims.end(shim);
    t.same(shims.events.topics(id), []);
  });
});

void t.test('a terminal: typed input, detaching and coming back', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await shims.shim('tty');
  const { id, task } = shim;
  const io = shims.io(id, { terminal: true });
  await task.create({ id, bundle: shim.bundle, ...io.request });
  t.match(await task.state({ id }), { terminal: true, stderr: '', stdin: io.request.stdin });
  await task.start({ id });
  await task.resizePty({ id, width: 120, height: 40 });
  await io.console.until('vmguest: ready');
  io.type('echo first $((5 * 5))');
  await io.console.until('first 25');
  io.leaveStdin();
  io.type('echo back $((5 * 6))');
  await io.console.until('back 30');

  // Keys reach the guest as they are, Ctrl-C and Ctrl-] among them.
  io.type('stty raw; echo raw $((6 * 6)); dd bs=1 count=5 2>/dev/null | od -An -tx1; stty sane');
  await io.console.until('raw 36');
  io.write('\x03\x1d\x00\x7f\x04');
  await io.console.until('03 1d 00 7f 04');
  io.type('burst 65536');
  const [, sum] = await io.console.until(/burst-end ([0-9a-f]{64})/);
  t.ok(sum);

  await task.closeIO({ id, stdin: true });
  t.match(await task.state({ id }), { status: 2 }, 'a serial line knows no end of input');
  await shims.remove(shim);
  await io.ended;
});
