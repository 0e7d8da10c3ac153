import t from 'tap';
import { parseCgroupLayout } from '../../../src/host/cgroup-layout.ts';
import { controllerDir, planCgroup } from '../../../src/host/cgroup-plan.ts';
import { scopeOf, wholeCgroup } from '../../../src/host/cgroup-scope.ts';

const layout = parseCgroupLayout(
  [
    '32 31 0:28 / /cg/unified rw - cgroup2 cgroup2 rw',
    '34 31 0:30 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
    '35 31 0:31 / /cg/systemd rw - cgroup cgroup rw,name=systemd',
  ].join('\n'),
);
const path = (cgroupsPath: string | undefined): string => planCgroup(layout, cgroupsPath, 'ns-id').path;

void t.test('every form of cgroupsPath has its path', (t) => {
  const slice = 'kubepods-burstable-pod0a_1b.slice';
  const table: [string | undefined, string][] = [
    [undefined, '/vmshim/ns-id'],
    ['', '/vmshim/ns-id'],
    ['/default/vm1', '/default/vm1'],
    ['/kubepods/burstable/pod1//abc/', '/kubepods/burstable/pod1/abc'],
    ['relative/vm1', '/vmshim/relative/vm1'],
    ['/with:colon/x', '/with:colon/x'],
    [
      `${slice}:cri-containerd:abc`,
      `/kubepods.slice/kubepods-burstable.slice/${slice}/cri-containerd-abc.scope`,
    ],
    ['system.slice:vm:abc', '/system.slice/vm-abc.scope'],
    [':vm:abc', '/system.slice/vm-abc.scope'],
    ['-.slice:vm:abc', '/vm-abc.scope'],
    ['system.slice::abc', '/system.slice/abc.scope'],
    ['system.slice:vm:own.slice', '/system.slice/own.slice'],
  ];
  for (const [given, expected] of table) t.equal(path(given), expected, String(given));
  t.end();
});

void t.test(
  'where systemd is the init and v2 alone, its form is a leaf of a scope that it is asked for',
  (t) => {
    const v2 = parseCgroupLayout('30 23 0:26 / /cg rw - cgroup2 cgroup2 rw');
    const systemd = { ...v2, systemd: true };
    const slice = 'kubepods-pod0a_1b.slice';
    const scope = `/kubepods.slice/${slice}/cri-containerd-abc.scope`;
    const cgroup = planCgroup(systemd, `${slice}:cri-containerd:abc`, 'x');
    t.equal(cgroup.path, `${scope}/vm`);
    t.match(scopeOf(cgroup), {
      unit: 'cri-containerd-abc.scope',
      slice,
      cgroup: { path: scope, dirs: [{ dir: `/cg${scope}` }] },
    });
    t.same(planCgroup(systemd, cgroup.path, 'x'), cgroup, 'a record’s path means the same');
    t.same(planCgroup(v2, cgroup.path, 'x'), cgroup, 'whoever reads it');
    t.equal(wholeCgroup(cgroup).path, scope);
    t.equal(scopeOf(planCgroup(systemd, '-.slice:vm:abc', 'x'))?.slice, '-.slice');

    const paths = ['/a/b', '/kubepods/pod1/vm', scope, '/a/b.scope/vm', 'system.slice:vm:own.slice'];
    for (const given of [...paths, undefined]) {
      const plain = planCgroup(systemd, given, 'x');
      t.equal(scopeOf(plain), undefined, `${given} is no scope of ours`);
      t.equal(wholeCgroup(plain), plain);
    }
    for (const other of [v2, { ...layout, systemd: true }])
      t.equal(
        planCgroup(other, `${slice}:cri-containerd:abc`, 'x').path,
        scope,
        `${other.kind} is as before`,
      );
    t.end();
  },
);

void t.test('what leads out of the hierarchy, or nowhere, is refused with its value', (t) => {
  const wrong = [
    '/',
    '///',
    '/a/../b',
    '..',
    '/a/./b',
    '/a\nb',
    'a:b',
    'a:b:c:d',
    'x.scope:vm:a',
    'a--b.slice:vm:a',
    'system.slice:vm:',
  ];
  for (const given of wrong) {
    t.throws(
      () => path(given),
      { kind: 'InvalidArgument', message: /linux\.cgroupsPath ".*; give a path/s },
      given,
    );
  }
  t.throws(() => planCgroup(layout, undefined, '../x'), { name: 'VmError', kind: 'InvalidArgument' });
  t.end();
});

void t.test(
  'a cgroup has one directory per hierarchy, and a controller is set in the one that has it',
  (t) => {
    const cgroup = planCgroup(layout, '/a/b', 'x');
    t.strictSame(
      cgroup.dirs.map(({ dir }) => dir),
      ['/cg/unified/a/b', '/cg/cpu,cpuacct/a/b', '/cg/systemd/a/b'],
    );
    t.equal(controllerDir(cgroup, 'cpuacct')?.dir, '/cg/cpu,cpuacct/a/b');
    t.equal(controllerDir(cgroup, 'memory')?.dir, '/cg/unified/a/b');
    t.end();
  },
);
