import t from 'tap';
import { ShimClient } from '../support/shim-client.ts';

void t.test('try', async (t) => {
  const shims = await ShimClient.make(t);
  const t0 = performance.now();
  const shim = await shims.shim('a', {});
  console.error('started', performance.now() - t0);
  const io = shims.io('a');
  const created = await shim.task.create({ id: 'a', bundle: shim.bundle, ...io.request });
  console.error('created', performance.now() - t0, created);
  await shim.task.start({ id: 'a' });
  await io.console.until('vmguest: ready');
  console.error('ready', performance.now() - t0);
  io.type('echo hello');
  await io.console.until('# hello');
  const t1 = performance.now();
  io.type('burst 1048576');
  await io.console.until('burst-end');
  console.error('burst', performance.now() - t1);
  await shims.remove(shim);
  console.error(shims.events.topics('a'));
});
