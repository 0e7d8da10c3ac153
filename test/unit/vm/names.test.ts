import fc from 'fast-check';
import t from 'tap';
import { vmNames } from '../../../src/vm/names.ts';

void t.test('names are a function of state directory, namespace and id', (t) => {
  const names = vmNames('/run/vmshim', 'k8s.io', 'abc');
  t.same(vmNames('/run/vmshim', 'k8s.io', 'abc'), names);
  t.match(names.key, /^[0-9a-f]{20}$/);
  t.equal(names.runDir, `/run/vmshim/${names.key}`);
  t.equal(names.record, `${names.runDir}/record.json`);
  t.equal(names.cgroup, `/vmshim/${names.key}`);
  t.not(vmNames('/run/vmshim', 'k8s.io', 'abd').key, names.key);
  t.not(vmNames('/run/vmshim', 'default', 'abc').key, names.key);
  t.not(vmNames('/elsewhere', 'k8s.io', 'abc').key, names.key, 'two containerds of one node may use one id');
  t.not(vmNames('/elsewhere', 'k8s.io', 'abc').uid, names.uid);
  t.end();
});

void t.test('user ids lie in the range that is ours', (t) => {
  const seen = new Set<number>();
  fc.assert(
    fc.property(fc.string(), fc.string(), (namespace, id) => {
      const { uid } = vmNames('/s', namespace, id);
      seen.add(uid);
      return uid >= 1_900_000_000 && uid < 2_100_000_000;
    }),
  );
  t.ok(seen.size > 90, 'and differ');
  t.end();
});

void t.test('sockets fit into sun_path', (t) => {
  const longest = vmNames(`/${'d'.repeat(72)}`, 'n', 'i');
  for (const path of [longest.controlSocket, longest.consoleSocket, longest.qmpSocket]) {
    t.ok(Buffer.byteLength(path) <= 107, path);
  }
  t.throws(() => vmNames(`/${'d'.repeat(80)}`, 'n', 'i'), {
    kind: 'InvalidArgument',
    message: /state_dir "\/d+" is too long for unix sockets below it/,
  });
  t.end();
});
