import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import fc from 'fast-check';
import { buildAddon } from '../../../scripts/build-addon.ts';
import { lockFile } from '../../../src/host/file-lock.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { loadNative } from '../../../src/host/native.ts';
import { bootId, type ProcessIdentity, readIdentity } from '../../../src/host/process-identity.ts';
import type { Claim } from '../../../src/numa/claim.ts';
import { formatLedger, type LedgerEntry, parseLedger } from '../../../src/numa/ledger-file.ts';
import { enter, handOver, leave, type Ledger, readLedger } from '../../../src/numa/ledger.ts';
import { tempDir } from '../../support/temp-dir.ts';

buildAddon();
const host = new LinuxHost();
const native = loadNative();
const GIB = 2 ** 30;
const never = new AbortController().signal;
const PROGRAM = join(import.meta.dirname, '../../support/ledger-process.ts');

function identity(pid: number): ProcessIdentity {
  return { pid, startTime: readIdentity(host, pid)?.startTime ?? 0, bootId: bootId(host) };
}
const me = identity(process.pid);

function claimOf(gib: number): Claim {
  return { shares: [{ node: 0, vcpus: 1, memoryBytes: gib * GIB }], pageBytes: 0, dedicated: [] };
}

function books(t: Test, rebuild: () => LedgerEntry[] = () => []): Ledger & { warnings: string[] } {
  const warnings: string[] = [];
  return {
    host,
    native,
    path: join(tempDir(t), 'numa.json'),
    rebuild,
    warn: (text) => warnings.push(text),
    warnings,
  };
}

async function add(ledger: Ledger, key: string, owner = me, gib = 1): Promise<void> {
  const claim = claimOf(gib);
  await enter(ledger, { key, name: key, owner }, () => ({ claim, result: undefined }), never);
}

const keys = (ledger: Ledger): string[] => readLedger(ledger).map(({ key }) => key);

/** A process that holds entries; `lines` is what it says. */
function member(t: Test, path: string, name: string, count: number, limit: number) {
  const child = spawn(process.execPath, [PROGRAM, path, name, String(count), String(limit)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => end(child));
  const lines = createInterface(child.stdout);
  return { child, lines, said: lines[Symbol.asyncIterator]() };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

void t.test('entries come, change their owner and go', async (t) => {
  const ledger = books(t);
  t.same(readLedger(ledger), [], 'no books, no entries');
  await leave(ledger, 'a', never);
  await add(ledger, 'a');
  await add(ledger, 'b', me, 3);
  await add(ledger, 'a', me, 2);
  t.same(
    readLedger(ledger).map(({ key, claim }) => [key, claim.shares[0]?.memoryBytes]),
    [
      ['b', 3 * GIB],
      ['a', 2 * GIB],
    ],
    'one entry per key',
  );
  await handOver(ledger, 'a', identity(process.ppid), never);
  t.equal(readLedger(ledger)[1]?.owner.pid, process.ppid);
  await leave(ledger, 'b', never);
  await leave(ledger, 'b', never);
  t.same(keys(ledger), ['a']);
  t.same(ledger.warnings, []);
});

void t.test('a decision that fails changes nothing', async (t) => {
  const ledger = books(t);
  await add(ledger, 'a');
  const before = readFileSync(ledger.path, 'utf8');
  const refusal = enter(
    ledger,
    { key: 'b', name: 'b', owner: me },
    () => {
      throw new Error('no room');
    },
    never,
  );
  await t.rejects(refusal, { message: 'no room' });
  t.equal(readFileSync(ledger.path, 'utf8'), before);
  await add(ledger, 'c');
  t.same(keys(ledger), ['a', 'c'], 'and the lock is free');
});

void t.test('entries of the dead, of another boot and of a later process are none', async (t) => {
  const ledger = books(t);
  const child = spawn('sleep', ['infinity'], { stdio: 'ignore' });
  t.teardown(() => end(child));
  const owner = identity(child.pid!);
  await add(ledger, 'child', owner);
  await add(ledger, 'old-boot', { ...me, bootId: 'before' });
  await add(ledger, 'reused-pid', { ...me, startTime: me.startTime - 1 });
  t.same(keys(ledger), ['child']);
  await end(child);
  t.same(keys(ledger), []);
  await add(ledger, 'next');
  t.same(
    parseLedger(readFileSync(ledger.path, 'utf8'))?.map(({ key }) => key),
    ['next'],
    'and the file is rid of them',
  );
});

void t.test('a damaged file is written anew from the records, with a warning', async (t) => {
  const recorded: LedgerEntry = { key: 'recorded', name: 'r', owner: me, claim: claimOf(1) };
  const ledger = books(t, () => [recorded]);
  const damages = [
    '',
    '{',
    'null',
    '{"format": 2, "entries": []}',
    '{"format": 1, "entries": [{}]}',
    formatLedger([recorded]).slice(0, -20),
    formatLedger([recorded]).replace('"pid"', '"pit"'),
  ];
  for (const damage of damages) {
    writeFileSync(ledger.path, damage);
    await add(ledger, 'new');
    t.same(keys(ledger), ['recorded', 'new'], JSON.stringify(damage));
  }
  t.equal(ledger.warnings.length, damages.length);
  t.match(ledger.warnings[0], /numa\.json is damaged; it is written anew from the records/);
});

void t.test(
  'a file that is gone is written anew from the records of VMs that live, with a warning',
  async (t) => {
    const recorded: LedgerEntry = { key: 'recorded', name: 'r', owner: me, claim: claimOf(1) };
    const dead = { ...recorded, key: 'dead', owner: { ...me, bootId: 'before' } };
    const ledger = books(t, () => [dead, recorded]);
    t.same(keys(ledger), ['recorded'], 'also for who looks without the lock');
    t.same(ledger.warnings, [], 'to whom it may be a VM that is just being entered');
    await add(ledger, 'new');
    t.same(keys(ledger), ['recorded', 'new']);
    t.match(ledger.warnings, [/numa\.json is missing, though VMs run .* written anew from their records/]);

    rmSync(ledger.path);
    await handOver(ledger, 'recorded', identity(process.ppid), never);
    t.match(readLedger(ledger), [{ key: 'recorded', owner: { pid: process.ppid } }]);
    t.equal(ledger.warnings.length, 2);

    const fresh = books(t, () => [dead]);
    await add(fresh, 'first');
    t.same(keys(fresh), ['first']);
    t.same(fresh.warnings, [], 'what a new node has is no loss');
  },
);

void t.test('whatever the file says: entries or undefined', (t) => {
  fc.assert(fc.property(fc.json(), (text) => (parseLedger(text), true)));
  fc.assert(
    fc.property(fc.anything(), (entries) => {
      const parsed = parseLedger(JSON.stringify({ format: 1, entries }));
      return parsed === undefined || Array.isArray(parsed);
    }),
  );
  t.end();
});

void t.test(
  '50 VMs made at once by ten processes never overshoot; the killed give back what they had',
  async (t) => {
    const ledger = books(t);
    const limit = 23;
    const members = Array.from({ length: 10 }, (_, i) => member(t, ledger.path, `m${i}`, 5, limit));
    const say = async ({ said }: { said: NodeJS.AsyncIterator<string> }): Promise<string> =>
      ((await said.next()) as { value: string }).value;
    await Promise.all(members.map(say));
    for (const { child } of members) child.stdin.write('go\n');
    const words = (await Promise.all(members.map(say))).flatMap((line) => line.split(' '));
    t.equal(words.filter((word) => word === 'entered').length, limit);
    t.equal(words.filter((word) => word === 'full').length, 50 - limit);
    t.equal(keys(ledger).length, limit);

    const half = members.slice(0, 5);
    const left = keys(ledger).filter((key) => !half.some((_, i) => key.startsWith(`m${i}-`)));
    await Promise.all(half.map(({ child }) => end(child)));
    t.same(keys(ledger), left);
    await add(ledger, 'next');
    t.same(
      parseLedger(readFileSync(ledger.path, 'utf8'))?.map(({ key }) => key),
      [...left, 'next'],
    );
  },
);

void t.test('who waits for the lock can be called off, and the lock goes on to the next', async (t) => {
  const ledger = books(t);
  const path = `${ledger.path}.lock`;
  const held = await lockFile(host, native, path, never);
  const called = new AbortController();
  const waiting = enter(
    ledger,
    { key: 'a', name: 'a', owner: me },
    () => {
      throw new Error('decided');
    },
    called.signal,
  );
  const patient = add(ledger, 'b');
  called.abort();
  await t.rejects(waiting, {
    name: 'VmError',
    kind: 'Canceled',
    message: /waiting for the lock .*numa\.json\.lock/,
  });
  t.same(keys(ledger), []);
  held[Symbol.dispose]();
  await patient;
  await add(ledger, 'c');
  t.same(keys(ledger), ['b', 'c'], 'nobody holds the lock');
  await t.rejects(lockFile(host, native, path, AbortSignal.abort()), { name: 'VmError', kind: 'Canceled' });
  await t.rejects(lockFile(host, native, '/nonexistent/lock', never), { name: 'VmError', kind: 'NotFound' });
  await t.rejects(
    Promise.resolve().then(() => native.flockWait(12_345)),
    { code: 'EBADF', syscall: 'fcntl' },
  );
});

void t.test('a process that has given up waiting ends while another one keeps the lock', async (t) => {
  const path = join(tempDir(t), 'lock');
  using _held = await lockFile(host, native, path, never);
  const waiter = join(import.meta.dirname, '../../support/lock-waiter.ts');
  const child = spawn(process.execPath, [waiter, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => void child.kill('SIGKILL'));
  const [said, ended] = await Promise.all([once(child.stdout, 'data'), once(child, 'exit')]);
  t.match(String(said[0]), /waiting for the lock .*: the call was canceled/);
  t.equal(ended[0], 0);
});
