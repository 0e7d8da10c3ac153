import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { loadNative } from '../../../src/host/native.ts';
import { collectGarbage, findGarbage, type GarbageRequest } from '../../../src/vm/collect-garbage.ts';
import {
  judgeBase,
  judgeLogs,
  judgePodDisks,
  judgeRunDirectory,
  type NodeFacts,
  type PodDisks,
  type RecordFact,
} from '../../../src/vm/garbage.ts';
import { openFlags } from '../../../src/host/open-flags.ts';
import { tempDir } from '../../support/temp-dir.ts';

const HOUR = 3_600_000;
const UID = '0b0c6b7e-1111-2222-3333-444455556666';
const disks: PodDisks = {
  uid: UID,
  path: `/d/pods/${UID}`,
  bytes: 1,
  changedAt: 0,
  claimed: false,
  bases: [],
  unreadable: undefined,
};
const facts: NodeFacts = {
  now: 10 * HOUR,
  graceMs: HOUR,
  existing: new Set(),
  kubelet: { pods: new Set(['another']) },
  containers: [{ namespace: 'k8s.io', id: 'c', text: '{"io.kubernetes.pod.uid":"another"}' }],
  records: [],
};
const vm: RecordFact = {
  runDir: '/s/k',
  bytes: 1,
  changedAt: 0,
  state: {
    t: 'vm',
    vm: 'VM "web"',
    namespace: 'k8s.io',
    id: 'c9',
    podUid: undefined,
    rootDisk: `${disks.path}/vm/root.qcow2`,
    alive: undefined,
    orphan: false,
  },
};
const unreadable: RecordFact = {
  ...vm,
  state: { t: 'unreadable', error: new VmError('Internal', 'not JSON') },
};

const state = (more: object): RecordFact => ({ ...vm, state: { ...vm.state, ...more } });

void t.test('a pod’s disks go only when everything that could know it was asked', (t) => {
  t.match(judgePodDisks(disks, facts), { t: 'remove' });
  const kept: [Partial<PodDisks>, Partial<NodeFacts>, RegExp, boolean][] = [
    [{ unreadable: 'no' }, {}, /no/, true],
    [{ claimed: true }, {}, /has it open/, false],
    [{}, { records: [vm] }, /record of VM "web"/, false],
    [{}, { records: [state({ podUid: UID, rootDisk: '/dev/sdb' })] }, /record of VM "web"/, false],
    [{}, { records: [unreadable] }, /cannot be read, and may name it/, true],
    [{}, { existing: new Set([UID]) }, /its pod exists/, false],
    [{}, { containers: { unknown: 'down' } }, /could not be asked.*down/, true],
    [{}, { containers: [{ namespace: 'n', id: UID, text: '' }] }, /container n\//, false],
    [{}, { containers: [{ namespace: 'n', id: 'x', text: `{"a":"${UID}"}` }] }, /container n\/x/, false],
    [{}, { kubelet: { absent: '/k/pods' } }, /there is no \/k\/pods/, true],
    [{}, { kubelet: { pods: new Set([UID]) } }, /kubelet has a directory/, false],
    [{ changedAt: 9.5 * HOUR }, {}, /30 min ago, within the grace of 60 min/, false],
    [{ changedAt: 11 * HOUR }, {}, /0 s ago/, false],
  ];
  for (const [disk, fact, why, notable] of kept)
    t.match(judgePodDisks({ ...disks, ...disk }, { ...facts, ...fact }), { t: 'keep', why, notable });
  t.end();
});

void t.test('bases, logs and directories', (t) => {
  const file = { name: 'b', path: '/d/bases/b', bytes: 1, changedAt: 0 };
  t.match(judgeBase(file, new Set(), facts), { t: 'remove' });
  t.match(judgeBase(file, new Set(['b']), facts), { t: 'keep', notable: false });
  t.match(judgeBase(file, undefined, facts), { t: 'keep', notable: true });
  t.match(judgeLogs(file, new Set(), facts), { t: 'remove' });
  t.match(judgeLogs(file, new Set(['b']), facts), { t: 'keep' });

  t.match(judgeRunDirectory(vm, facts), { t: 'remove', why: /VM "web" has ended/ });
  t.match(judgeRunDirectory(unreadable, facts), { t: 'keep', notable: true });
  t.match(judgeRunDirectory(state({ alive: 'shim' }), facts), { t: 'keep', notable: false });
  t.match(judgeRunDirectory(state({ alive: 'QEMU' }), facts), { t: 'keep', notable: true });
  const orphan = judgeRunDirectory(state({ alive: 'QEMU', orphan: true }), facts);
  t.match(orphan, { t: 'keep', notable: false, why: /waits for its next shim/ });
  t.match(judgeRunDirectory(state({ id: 'c' }), facts), { t: 'keep', why: /containerd has the container/ });
  t.match(judgeRunDirectory(vm, { ...facts, containers: { unknown: 'x' } }), { t: 'keep', notable: true });
  t.match(judgeRunDirectory({ ...vm, state: { t: 'none' } }, facts), { t: 'remove' });
  t.match(judgeRunDirectory({ ...vm, state: { t: 'none' }, changedAt: 10 * HOUR }, facts), { t: 'keep' });
  t.end();
});

void t.test(
  'no VM can make a disk while things are removed, and what a killed collection left goes',
  async (t) => {
    const host = new LinuxHost();
    const native = loadNative();
    const directory = tempDir(t);
    const dataDir = join(directory, 'data');
    const kubeletDir = join(directory, 'kubelet');
    const disk = join(dataDir, 'pods', UID, 'vm');
    for (const path of [disk, join(kubeletDir, 'pods'), join(dataDir, 'trash/1/old')])
      mkdirSync(path, { recursive: true });
    writeFileSync(join(disk, 'nvram.fd'), 'x');
    const config = { stateDir: join(directory, 'state'), dataDir, kubeletDir };
    const request: GarbageRequest = {
      config,
      graceMs: 0,
      existing: new Set(),
      containers: [],
      onWait: () => t.fail('nobody is there'),
    };

    const rename = host.rename.bind(host);
    let renamed = 0;
    host.rename = (from, to) => {
      using other = host.open(join(dataDir, 'gc.lock'), openFlags.O_RDWR);
      const [LOCK_SH, LOCK_NB] = [1, 4];
      t.notOk(native.flock(other.fd, LOCK_SH | LOCK_NB), 'a VM has to wait');
      renamed++;
      rename(from, to);
    };
    t.match(findGarbage({ host, native }, request), [{ kind: 'pod disks', verdict: { t: 'remove' } }]);
    t.same(readdirSync(join(dataDir, 'pods')), [UID], 'looking changes nothing');
    await collectGarbage({ host, native }, request, AbortSignal.timeout(10_000));
    t.equal(renamed, 1);
    t.same(readdirSync(join(dataDir, 'pods')), []);
    t.same(readdirSync(join(dataDir, 'trash')), []);

    mkdirSync(disk, { recursive: true });
    writeFileSync(join(disk, 'root.qcow2'), 'no overlay');
    const [found] = findGarbage({ host, native }, request);
    t.match(found?.verdict, { t: 'keep', notable: true, why: /root.qcow2/ }, 'what cannot be read stays');
    rmSync(disk, { recursive: true });
  },
);
