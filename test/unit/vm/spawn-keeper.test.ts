import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import type { ExecResult, FileInfo, SpawnedProcess, SpawnPlan } from '../../../src/host/host.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { readIdentity } from '../../../src/host/process-identity.ts';
import { planKeeperScope, replaceKeepers } from '../../../src/vm/spawn-keeper.ts';
import { StandInShim } from '../../support/stand-in-shim.ts';
import { tempDir, type Teardown } from '../../support/temp-dir.ts';
import { untilFile } from '../../support/until-file.ts';

const never = new AbortController().signal;
const KEY = '0123456789abcdef0123';

/** A host that starts nothing, with systemd as its init or without. */
class Recorded extends LinuxHost {
  readonly ran: string[] = [];
  readonly #systemd: 'none' | 'obeys' | 'refuses';

  constructor(systemd: 'none' | 'obeys' | 'refuses') {
    super();
    this.#systemd = systemd;
  }

  override inspect(path: string): FileInfo | undefined {
    if (path !== '/run/systemd/system') return super.inspect(path);
    return this.#systemd === 'none' ? undefined : super.inspect('/');
  }

  override exec(file: string, args: readonly string[]): Promise<ExecResult> {
    this.ran.push([file, ...args].join(' '));
    return this.#systemd === 'obeys'
      ? Promise.resolve({ status: 0, stdout: '', stderr: '' })
      : Promise.reject(new VmError('Internal', 'systemd-run ended with status 1: Unit already loaded'));
  }

  override spawn({ args }: SpawnPlan): SpawnedProcess {
    this.ran.push(`spawn ${args.slice(1).join(' ')}`);
    return { pid: 1 } as SpawnedProcess;
  }
}

/** A state directory with an orphan. */
function orphaned(t: Teardown, keeper?: { pid: number; startTime: number }): { state: string; run: string } {
  const state = tempDir(t);
  const shim = new StandInShim(t, state, { key: KEY, podUid: 'uid-a' });
  mkdirSync(shim.runDir);
  shim.writeRecord({ shim: undefined, orphan: { since: 1, deadline: 2, keeper, ending: false } });
  return { state, run: shim.runDir };
}

void t.test('an orphan without its keeper gets another one, in a scope where systemd is', async (t) => {
  const { state, run } = orphaned(t, { pid: process.pid, startTime: 1 });
  const keep = `-namespace k8s.io -id id-${KEY} -bundle ${run} keep`;
  for (const [systemd, first, rest] of [
    ['none', `spawn ${keep}`, 0],
    ['obeys', `systemd-run --scope --quiet --collect --unit=vmshim-keeper-${KEY}.scope `, 0],
    ['refuses', 'systemd-run ', 1],
  ] as const) {
    const host = new Recorded(systemd);
    const said: string[] = [];
    await replaceKeepers(host, state, (sentence) => said.push(sentence), never);
    t.ok(host.ran[0]?.startsWith(first), `${systemd}: ${host.ran[0] ?? ''}`);
    t.ok(host.ran[0]?.endsWith(keep));
    t.same(host.ran.slice(1), rest === 0 ? [] : [`spawn ${keep}`], 'better than none');
    t.match(said.join(), rest === 0 ? /^$/ : /no scope for the keeper of VM "vm-1", .*Unit already loaded/);
  }
});

void t.test('an orphan that has its keeper is left alone', async (t) => {
  const us = readIdentity(new LinuxHost(), process.pid);
  const { state } = orphaned(t, { pid: process.pid, startTime: us?.startTime ?? 0 });
  const host = new Recorded('obeys');
  await replaceKeepers(host, state, (sentence) => t.fail(sentence), never);
  t.same(host.ran, []);
});

void t.test('what runs in the scope leaves the keeper alone in it', async (t) => {
  const directory = tempDir(t);
  const told = join(directory, 'told');
  writeFileSync(told, '');
  writeFileSync(
    join(directory, 'shim.cjs'),
    `const { appendFileSync, readFileSync } = require('node:fs');
    const [, , , , , session] = readFileSync('/proc/self/stat', 'utf8').split(' ');
    const { pid, argv, env } = process;
    const told = { pid, session: Number(session), cwd: process.cwd(), args: argv.slice(2), env };
    appendFileSync('${told}', JSON.stringify(told) + '\\n');`,
  );
  const [, program = ''] = process.argv;
  process.argv[1] = join(directory, 'vmctl.cjs');
  process.env['VMSHIM_TEST_OURS'] = 'yes';
  t.teardown(() => {
    process.argv[1] = program;
    delete process.env['VMSHIM_TEST_OURS'];
  });
  const args = planKeeperScope({ namespace: 'n', id: 'i', runDir: '/run/vmshim/k' });
  const [shell = '', ...rest] = args.slice(args.indexOf('--') + 1);
  // It does not wait for the keeper, which may live for hours.
  await new LinuxHost().exec(shell, rest, { env: { NODE_NO_WARNINGS: '1' } });
  const [text] = await untilFile(told, /^.*\n/);
  const is = JSON.parse(text) as { pid: number; env: object };
  t.match(is, {
    ...{ session: is.pid, cwd: '/' },
    args: ['-namespace', 'n', '-id', 'i', '-bundle', '/run/vmshim/k', 'keep'],
  });
  t.notOk('VMSHIM_TEST_OURS' in is.env, 'nothing of who started it');
});
