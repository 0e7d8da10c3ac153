import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { collectOrphans, type CollectorParts } from '../../../src/agent/garbage/collect-orphans.ts';
import type { VmView } from '../../../src/agent/vms/vm-view.ts';
import type { NodeVm } from '../../../src/control/node-vms.ts';
import { VmError } from '../../../src/core/errors.ts';
import type { ExecOptions } from '../../../src/host/host.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { tempDir, type Teardown } from '../../support/temp-dir.ts';

const { signal } = new AbortController();

/** A host on which `vmctl` prints `found` and tells how it was called. */
class Recorded extends LinuxHost {
  readonly calls: { args: readonly string[]; pods: string }[] = [];
  found: object[] = [];

  override exec(_file: string, args: readonly string[], { fds = [] }: ExecOptions = {}) {
    this.calls.push({ args, pods: readFileSync(`/proc/self/fd/${fds[0] ?? ''}`, 'utf8') });
    return Promise.resolve({ status: 0, stdout: JSON.stringify(this.found), stderr: '' });
  }
}

function make(t: Teardown, more: Partial<CollectorParts> = {}) {
  const host = new Recorded();
  const kubeletDir = tempDir(t);
  mkdirSync(join(kubeletDir, 'pods/uid-a'), { recursive: true });
  const parts: CollectorParts = {
    ...{ host, vmctl: ['/node', '/vmctl.cjs'], env: {}, kubeletDir, containerd: '/c.sock', graceMs: 1500 },
    listUids: () => Promise.resolve(new Set(['uid-a', 'uid-b'])),
    vms: () => [],
    ...more,
  };
  return { host, parts };
}

void t.test('vmctl gc is told which pods exist, and what it did is summed up', async (t) => {
  const { host, parts } = make(t);
  host.found = [
    { action: 'remove', kind: 'pod disks', path: '/d/pods/uid-x', bytes: 10 },
    { action: 'remove', kind: 'base image', path: '/d/bases/b', bytes: 5 },
    { action: 'keep', kind: 'pod disks', path: '/d/pods/uid-a', bytes: 7 },
  ];
  t.same(await collectOrphans(parts, signal), { count: 2, bytes: 15, more: false });
  const [call] = host.calls;
  t.equal(call?.args.join(' '), '/vmctl.cjs gc --json --grace 2s --pods /proc/self/fd/3 --address /c.sock');
  t.equal(call?.pods, 'uid-a\nuid-b\n');
  host.found = [{ action: 'keep', kind: 'pod disks', path: '/d/pods/uid-x', bytes: 7 }];
  t.match(await collectOrphans(parts, signal), { count: 0, more: true }, 'it may go later');
});

void t.test('without proof nothing is asked of vmctl', async (t) => {
  const empty = tempDir(t);
  mkdirSync(join(empty, 'pods'));
  const vm = { name: 'vm', alive: undefined } as Partial<NodeVm> as NodeVm;
  const unseen = { t: 'answers', vm } as Partial<VmView> as VmView;
  const cases: [Partial<CollectorParts>, RegExp][] = [
    [{ listUids: () => Promise.reject(new VmError('Unavailable', 'the API server is away')) }, /is away/],
    [{ listUids: () => Promise.resolve(new Set(['uid-z'])) }, /none of the 1 pods .*is --node-name right/],
    [{ vms: () => [unseen] }, /its process cannot be seen.*hostPID/],
    [{ kubeletDir: '/nowhere' }, /\/nowhere\/pods/],
    [{ kubeletDir: empty }, /there are no pods in .*\/pods yet that would prove --node-name right/],
  ];
  for (const [more, message] of cases) {
    const { host, parts } = make(t, more);
    await t.rejects(collectOrphans(parts, signal), { message });
    t.same(host.calls, []);
  }
});
