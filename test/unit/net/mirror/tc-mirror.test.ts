import t from 'tap';
import { VmError } from '../../../../src/core/errors.ts';
import type { ExecOptions, ExecResult } from '../../../../src/host/host.ts';
import { LinuxHost } from '../../../../src/host/linux-host.ts';
import { applyMirror, type Mirror, planMirror, removeMirror } from '../../../../src/net/tc-mirror.ts';

const mirror: Mirror = { netns: undefined, tap: 'vt1', link: 'eth0', mtu: 1400, sender: 'tc' };
const words = (commands: readonly (readonly string[])[]): string[] =>
  commands.map((command) => command.join(' '));

void t.test('both ways, by the classifier the kernel has', (t) => {
  const rule = (from: string, to: string, match: string): string[] => [
    `qdisc replace dev ${from} ingress`,
    `filter replace dev ${from} parent ffff: protocol all pref 100 ${match} action mirred egress redirect dev ${to}`,
  ];
  const matchall = 'handle 1 matchall';
  const u32 = 'handle 800::800 u32 match u8 0 0';
  t.same(words(planMirror(mirror, 'matchall')), [
    ...rule('eth0', 'vt1', matchall),
    ...rule('vt1', 'eth0', matchall),
  ]);
  t.same(words(planMirror(mirror, 'u32')), [...rule('eth0', 'vt1', u32), ...rule('vt1', 'eth0', u32)]);
  t.same(words(planMirror({ ...mirror, sender: 'guard' }, 'u32')), rule('eth0', 'vt1', u32));
  t.end();
});

/** Plays a kernel: answers each command by what `fail` says of it. */
class ScriptedHost extends LinuxHost {
  readonly ran: string[] = [];
  readonly #fail: (command: string) => string | undefined;

  constructor(fail: (command: string) => string | undefined) {
    super();
    this.#fail = fail;
  }

  override exec(file: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const input = typeof options.input === 'string' ? options.input : '';
    const command = `${file} ${args.join(' ')} ${input}`;
    this.ran.push(command);
    const failure = this.#fail(command);
    if (failure !== undefined) return Promise.reject(new VmError('Internal', failure));
    return Promise.resolve({ status: 0, stdout: '', stderr: '' });
  }
}

void t.test('matchall first, u32 where it is missing', async (t) => {
  const modern = new ScriptedHost(() => undefined);
  await applyMirror(modern, mirror);
  t.notOk(modern.ran.some((command) => command.includes('u32')));

  const old = new ScriptedHost((command) =>
    command.includes('matchall') ? 'no such classifier' : undefined,
  );
  await applyMirror(old, mirror);
  t.ok(old.ran.some((command) => command.includes('u32')));
});

void t.test('a failure is told, not what comes of undoing', async (t) => {
  const broken = new ScriptedHost((command) => (command.startsWith('ip') ? 'no TAP' : undefined));
  await t.rejects(applyMirror(broken, mirror), { message: 'no TAP' });
  t.ok(broken.ran.some((command) => command.startsWith('tc filter show dev eth0')));

  const worse = new ScriptedHost((command) => (command.includes('show') ? 'cannot undo' : 'no tc'));
  await t.rejects(applyMirror(worse, mirror), { message: 'no tc' });
});

void t.test('a filter that somebody else takes off meanwhile is as good as taken off', async (t) => {
  /** A link that has the filter, which cannot be taken off. */
  class TcHost extends LinuxHost {
    readonly #failure: string;

    constructor(failure: string) {
      super();
      this.#failure = failure;
    }

    override exec(_file: string, args: readonly string[]): Promise<ExecResult> {
      if (args.includes('delete')) return Promise.reject(new VmError('Internal', this.#failure));
      return Promise.resolve({ status: 0, stdout: 'filter protocol all pref 100 u32 chain 0\n', stderr: '' });
    }
  }
  // What iproute2 says once the last filter of the qdisc is gone.
  const gone = 'tc ended with status 2: Error: Cannot find specified filter chain.';
  await removeMirror(new TcHost(gone), mirror);
  const refused = 'tc ended with status 2: RTNETLINK answers: Operation not permitted';
  await t.rejects(removeMirror(new TcHost(refused), mirror), { message: refused });
});
