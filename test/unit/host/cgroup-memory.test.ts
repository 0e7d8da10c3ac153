import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { createCgroup } from '../../../src/host/cgroup.ts';
import { limitMemory, memoryBound } from '../../../src/host/cgroup-memory.ts';
import { parseCgroupLayout } from '../../../src/host/cgroup-layout.ts';
import { controllerDir, planCgroup } from '../../../src/host/cgroup-plan.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { testCgroup, versions } from './test-cgroup.ts';

const host = new LinuxHost();
const MIB = 2 ** 20;

if (versions.includes(1)) {
  void t.test('the kernel takes a limit in v1, and the least of those above is the bound', (t) => {
    const cgroup = testCgroup(t);
    createCgroup(host, cgroup);
    const { dir } = controllerDir(cgroup, 'memory')!;
    const before = memoryBound(host, cgroup);
    t.equal(limitMemory(host, cgroup, 64 * MIB), true);
    t.equal(host.readText(join(dir, 'memory.limit_in_bytes')).trim(), String(64 * MIB));
    t.equal(memoryBound(host, cgroup), before, 'its own is none of those');
    writeFileSync(join(dirname(dir), 'memory.limit_in_bytes'), String(96 * MIB));
    t.equal(memoryBound(host, cgroup), 96 * MIB);
    t.end();
  });
}

void t.test('v2, in a tree of files', (t) => {
  const root = tempDir(t);
  const layout = parseCgroupLayout(`30 23 0:26 / ${root} rw - cgroup2 cgroup2 rw`);
  const cgroup = planCgroup(layout, '/kubepods/pod1/vm', 'x');
  t.equal(limitMemory(host, cgroup, MIB), false, 'nothing to limit');
  t.equal(memoryBound(host, cgroup), undefined);
  mkdirSync(join(root, 'kubepods/pod1/vm'), { recursive: true });
  for (const [dir, text] of [
    ['kubepods', '8589934592\n'],
    ['kubepods/pod1', '1073741824\n'],
    ['kubepods/pod1/vm', 'max\n'],
  ])
    writeFileSync(join(root, dir!, 'memory.max'), text!);
  t.equal(memoryBound(host, cgroup), 2 ** 30);
  writeFileSync(join(root, 'kubepods/pod1/memory.max'), 'max\n');
  t.equal(memoryBound(host, cgroup), 2 ** 33);
  t.equal(limitMemory(host, cgroup, 7 * MIB), true);
  t.equal(host.readText(join(root, 'kubepods/pod1/vm/memory.max')), String(7 * MIB));
  t.end();
});
