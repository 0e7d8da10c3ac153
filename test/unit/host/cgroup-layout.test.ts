import t from 'tap';
import { type CgroupLayout, detectCgroupLayout, parseCgroupLayout } from '../../../src/host/cgroup-layout.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';

const v2 =
  '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot';
const systemdHybrid = [
  '31 23 0:27 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,size=4096k,mode=755',
  '32 31 0:28 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate',
  '33 31 0:29 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd',
  '34 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct',
  '35 31 0:31 / /sys/fs/cgroup/memory rw shared:13 - cgroup cgroup rw,memory',
].join('\n');

const summary = (layout: CgroupLayout): unknown => [
  layout.kind,
  ...layout.hierarchies.map((h) => `${h.version} ${h.controllers.join('+')} ${h.mountPoint}`),
];

void t.test('v2 alone', (t) => {
  t.strictSame(summary(parseCgroupLayout(v2)), ['v2', '2  /sys/fs/cgroup']);
  t.strictSame(summary(parseCgroupLayout(v2, '/tmp/x')), ['v2', '2  /tmp/x/sys/fs/cgroup']);
  t.end();
});

void t.test('v1, with and without a v2 hierarchy beside it', (t) => {
  t.strictSame(summary(parseCgroupLayout(systemdHybrid)), [
    'hybrid',
    '2  /sys/fs/cgroup/unified',
    '1 name=systemd /sys/fs/cgroup/systemd',
    '1 cpu+cpuacct /sys/fs/cgroup/cpu,cpuacct',
    '1 memory /sys/fs/cgroup/memory',
  ]);
  const v1 = systemdHybrid.replace(/^.*cgroup2.*\n/m, '');
  t.equal(parseCgroupLayout(v1).kind, 'v1');
  t.end();
});

void t.test('a hierarchy that is mounted twice counts once, where all of it is mounted', (t) => {
  const again = [
    '40 1 0:26 /kubepods/pod1 /var/lib/part rw - cgroup2 cgroup2 rw',
    v2,
    '41 1 0:26 / /mnt/again rw - cgroup2 cgroup2 rw',
  ].join('\n');
  t.strictSame(summary(parseCgroupLayout(again)), ['v2', '2  /sys/fs/cgroup']);
  t.end();
});

void t.test('no cgroup at all is said', (t) => {
  t.throws(() => parseCgroupLayout('22 1 0:5 / /proc rw - proc proc rw'), {
    kind: 'FailedPrecondition',
    message: /mount cgroup2/,
  });
  t.end();
});

void t.test('this host has a layout whose hierarchies are there', (t) => {
  const host = new LinuxHost();
  const layout = detectCgroupLayout(host);
  for (const { mountPoint } of layout.hierarchies)
    t.ok(host.inspect(`${mountPoint}/cgroup.procs`), mountPoint);
  t.end();
});
