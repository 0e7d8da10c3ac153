import t from 'tap';
import { Timeline } from '../../../src/vm/timeline.ts';

void t.test('the first time counts, and a fork goes its own way', (t) => {
  const shim = new Timeline();
  shim.mark('start-called', 10);
  shim.mark('start-called', 99);
  const vm = shim.fork();
  vm.mark('created', 20);
  shim.mark('shim-ready', 15);
  t.same(vm.entries(), [
    { name: 'start-called', atMs: 10 },
    { name: 'created', atMs: 20 },
  ]);
  t.equal(vm.at('created'), 20);
  t.equal(vm.at('exited'), undefined);
  t.equal(shim.at('created'), undefined);
  const before = Date.now();
  vm.mark('exited');
  t.ok(Math.abs((vm.at('exited') ?? 0) - before) < 60_000, 'in milliseconds since the epoch');
  t.end();
});
