import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { containerd, google } from '#wire';
import { VmError } from '../../src/core/errors.ts';
import { processEnded, ShimClient } from '../support/shim-client.ts';

const ROUNDS = 3;

void t.test('a guest that ends at once', async (t) => {
  const shims = await ShimClient.make(t);

  await t.test('by its own power-off, seen by a v3 client without any stdio', async (t) => {
    const shim = await shims.shim('brief', { version: 3, cmdline: 'vmguest.run=poweroff' });
    const { id, task } = shim;
    await task.create({ id, bundle: shim.bundle });
    const exit = task.wait({ id });
    await task.start({ id });
    t.equal((await exit).exitStatus, 0);
    await task.delete({ id });
    await shims.end(shim);
    t.same(shims.events.topics(id), ['create', 'start', 'exit', 'delete'], 'Shutdown delivers what is left');
  });

  await t.test('together with the answer to `cont`: its start is told before its exit', async (t) => {
    const options = shims.options(shims.configWithStandIn('end', 'end'));
    for (let round = 0; round < ROUNDS; round++) {
      const shim = await shims.shim(`at-once-${round}`);
      const { id, task } = shim;
      await task.create({ id, bundle: shim.bundle, options });
      const exit = task.wait({ id });
      await task.start({ id });
      t.equal((await exit).exitStatus, 0);
      t.match(await task.state({ id }), { status: 3 });
      await task.delete({ id });
      await shims.end(shim);
      t.same(shims.events.topics(id), ['create', 'start', 'exit', 'delete']);
    }
  });
});

void t.test('events while containerd is away', async (t) => {
  const shims = await ShimClient.make(t);
  const { events } = shims;
  const shim = await shims.shim('vm');
  const { id, task } = shim;
  await task.create({ id, bundle: shim.bundle });
  await events.until('create', id);
  await events.stop();
  await task.start({ id });
  await task.pause({ id });
  await task.resume({ id });
  const before = Date.now();
  await events.listen();
  await events.until('resumed', id);
  t.same(events.topics(id), ['create', 'start', 'paused', 'resumed'], 'come in order when it is back');
  t.ok(
    events.of(id).every(({ at }) => at <= before),
    'with the time of the event, not of its delivery',
  );

  await t.test('one that is refused for good does not hold up the next', async (t) => {
    events.refusal = new VmError('InvalidArgument', 'no such topic');
    const dropped = events.untilRefused();
    await task.pause({ id });
    await dropped;
    events.refusal = new VmError('Unavailable', 'not now');
    const delayed = events.untilRefused();
    await task.resume({ id });
    await delayed;
    events.refusal = undefined;
    await task.kill({ id, signal: 9 });
    await events.until('exit', id);
    t.same(events.topics(id).slice(4), ['resumed', 'exit']);
    t.equal(events.topics(id).filter((topic) => topic === 'exit').length, 1);
    t.match((await events.until('exit', id)).message, { exitStatus: 137 });
  });

  await t.test('Shutdown does not wait for it longer than containerd waits for Shutdown', async (t) => {
    await events.stop();
    await task.delete({ id });
    await task.shutdown({ id });
    await task.ttrpc.closed;
    await processEnded(shim.pid);
    await shims.delete(id);
    t.notOk(existsSync(shim.socketPath));
    rmSync(shim.bundle, { recursive: true });
  });
});

void t.test('without a ttrpc address, events go through containerd’s publish command', async (t) => {
  const shims = await ShimClient.make(t);
  const published = join(shims.directory, 'published');
  const away = join(shims.directory, 'away');
  const publisher = join(shims.directory, 'publisher');
  mkdirSync(published);
  writeFileSync(away, '');
  // One directory per call; its name is the number of the call.
  const script = `#!/bin/sh
n=$(ls ${published} | wc -l)
mkdir ${published}/$n
printf '%s\\n' "$@" >${published}/$n/args
cat >${published}/$n/stdin
[ ! -e ${away} ]
`;
  writeFileSync(publisher, script, { mode: 0o755 });
  const shim = await shims.shim('vm', { env: { TTRPC_ADDRESS: '' }, flags: ['-publish-binary', publisher] });
  const { id, task } = shim;
  await task.create({ id, bundle: shim.bundle });
  while (readdirSync(published).length < 2) await delay(5);
  rmSync(away);
  await task.delete({ id });
  await shims.end(shim);
  // It delivers what it still has to tell after it has answered.
  await processEnded(shim.pid);

  const calls = readdirSync(published)
    .sort((a, b) => Number(a) - Number(b))
    .map((call) => ({
      args: readFileSync(join(published, call, 'args'), 'utf8')
        .trim()
        .split('\n'),
      event: google.protobuf.Any.decode(readFileSync(join(published, call, 'stdin'))),
    }));
  const topics = calls.map(({ args }) => args[4]);
  t.same(
    topics.filter((topic, call) => topic !== topics[call - 1]),
    ['/tasks/create', '/tasks/exit', '/tasks/delete'],
    'in order',
  );
  t.ok(topics.filter((topic) => topic === '/tasks/create').length > 1, 'a call that failed was repeated');
  t.equal(topics.filter((topic) => topic === '/tasks/exit').length, 1);
  for (const { args } of calls) {
    t.same(args, [
      '--address',
      shims.grpcAddress,
      'publish',
      '--topic',
      args[4],
      '--namespace',
      shims.namespace,
    ]);
  }
  const last = calls.at(-1)?.event;
  t.equal(last?.typeUrl, 'containerd.events.TaskDelete');
  t.match(containerd.events.TaskDelete.decode(last?.value ?? new Uint8Array()), {
    containerId: id,
    exitStatus: 137,
  });
});
