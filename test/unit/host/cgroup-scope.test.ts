import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { parseCgroupLayout } from '../../../src/host/cgroup-layout.ts';
import { planCgroup } from '../../../src/host/cgroup-plan.ts';
import { createCgroup } from '../../../src/host/cgroup.ts';
import { holdScope, planScope, type Scope, scopeOf } from '../../../src/host/cgroup-scope.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { tempDir } from '../../support/temp-dir.ts';

const SLICE = 'kubepods-pod1.slice';
const never = new AbortController().signal;

/** A scope of a tree that is no kernel's. */
function scopeIn(root: string): { scope: Scope; leaf: string } {
  const layout = parseCgroupLayout(`30 23 0:26 / ${root} rw - cgroup2 cgroup2 rw`);
  const cgroup = planCgroup({ ...layout, systemd: true }, `${SLICE}:cri-containerd:abc`, 'x');
  const scope = scopeOf(cgroup);
  if (scope === undefined) throw new Error('no scope');
  createCgroupParents(scope);
  createCgroup(new LinuxHost(), cgroup);
  return { scope, leaf: cgroup.dirs[0]?.dir ?? '' };
}

function createCgroupParents({ cgroup }: Scope): void {
  for (const { dir } of cgroup.dirs) {
    mkdirSync(dir, { recursive: true });
    for (const path of [dir, join(dir, '..'), join(dir, '../..')]) {
      writeFileSync(join(path, 'cgroup.controllers'), 'cpu memory\n');
      writeFileSync(join(path, 'cgroup.subtree_control'), '\n');
    }
  }
}

/** systemd-run cannot work on a machine without systemd: it is as if it answered so. */
class Scripted extends LinuxHost {
  readonly asked: (readonly string[])[] = [];
  override exec(file: string, args: readonly string[]): Promise<never> {
    this.asked.push([file, ...args]);
    return Promise.reject(new VmError('Internal', 'systemd-run ended with status 1: Unit already loaded'));
  }
}

void t.test('systemd-run is asked for a delegated scope in the slice', (t) => {
  const { scope } = scopeIn(tempDir(t));
  const args = planScope(scope);
  const command = args.indexOf('--');
  t.strictSame(args.slice(0, command), [
    '--scope',
    '--quiet',
    '--collect',
    '--unit=cri-containerd-abc.scope',
    `--slice=${SLICE}`,
    '--description=VM cri-containerd-abc',
    '--property=Delegate=yes',
    '--property=DefaultDependencies=no',
  ]);
  t.strictSame(args.slice(command + 1, command + 3), ['/bin/sh', '-c']);
  t.equal(args.at(-1), scope.cgroup.dirs[0]?.dir);
  t.end();
});

void t.test('the command leaves a process in a leaf of its own and ends', async (t) => {
  const { scope } = scopeIn(tempDir(t));
  const args = planScope(scope);
  const [shell = '', ...script] = args.slice(args.indexOf('--') + 1);
  await new LinuxHost().exec(shell, script);
  const pid = Number(readFileSync(join(scope.cgroup.dirs[0]?.dir ?? '', 'hold/cgroup.procs'), 'utf8'));
  t.teardown(() => process.kill(pid, 'SIGKILL'));
  t.ok(process.kill(pid, 0), 'it runs');

  const host = new Scripted();
  await holdScope(host, scope, {}, never);
  t.strictSame(host.asked, [], 'a scope that is held is not asked for again');
});

void t.test('what systemd says is what the user is told', async (t) => {
  const { scope } = scopeIn(tempDir(t));
  const host = new Scripted();
  await t.rejects(holdScope(host, scope, {}, never), {
    kind: 'FailedPrecondition',
    message:
      /^systemd does not make cri-containerd-abc\.scope in kubepods-pod1\.slice, .*Unit already loaded$/,
  });
  t.equal(host.asked.length, 1);
});

void t.test('controllers are passed on below the scope only: what is above is systemd’s', (t) => {
  const { scope, leaf } = scopeIn(tempDir(t));
  const [place] = scope.cgroup.dirs;
  const text = (path: string): string => readFileSync(join(path, 'cgroup.subtree_control'), 'utf8').trim();
  t.match(text(place?.dir ?? ''), /^\+(cpu|memory)$/);
  t.equal(text(join(place?.dir ?? '', '..')), '');
  t.ok(new LinuxHost().inspect(leaf));
  t.end();
});
