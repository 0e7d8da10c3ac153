import { appendFileSync, readFileSync, statSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { QemuLog } from '../../../src/qemu/qemu-log.ts';
import { tempDir } from '../../support/temp-dir.ts';

const host = new LinuxHost();

void t.test('a new log is for root only and empty', (t) => {
  const path = join(tempDir(t), 'qemu.log');
  const { log, fd } = QemuLog.create(host, path);
  t.teardown(() => fd[Symbol.dispose]());
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.same(log.tail(), []);
  t.same(log.readWarnings(), []);
  writeSync(fd.fd, 'qemu-system-x86_64: one\n');
  t.same(log.tail(), ['one']);
  t.end();
});

void t.test('an older process’s part is kept in the file and not shown', (t) => {
  const path = join(tempDir(t), 'qemu.log');
  writeFileSync(path, 'qemu-system-x86_64: warning: old\nqemu-system-x86_64: old\n');
  const { log, fd } = QemuLog.create(host, path);
  t.teardown(() => fd[Symbol.dispose]());
  t.same(log.tail(), []);
  writeSync(fd.fd, 'new\n');
  t.same(log.tail(), ['new']);
  t.same(log.readWarnings(), []);
  t.match(readFileSync(path, 'utf8'), /old\nnew\n$/);
  t.same(new QemuLog(host, path, log.start).tail(), ['new'], 'an adopting shim sees the same part');
  t.end();
});

void t.test('lines lose the program’s name and time, warnings are told once', (t) => {
  const path = join(tempDir(t), 'qemu.log');
  writeFileSync(path, '');
  const log = new QemuLog(host, path, 0);
  const lines = [
    'qemu-system-x86_64: warning: no pni',
    'qemu-system-x86_64: -device x: what?',
    '',
    '/usr/bin/qemu-system-x86_64: warning: no pni\r',
    '2026-11-22T06:00:00.123456Z qemu-system-x86_64: warning: late',
    'warning: bare',
    'qemu: module missing',
    'the guest said warning: no',
    'unfinished',
  ];
  appendFileSync(path, lines.join('\n'));
  t.same(log.readWarnings(), ['no pni', 'late', 'bare']);
  t.same(log.tail(4), [
    'bare'.replace(/^/, 'warning: '),
    'module missing',
    'the guest said warning: no',
    'unfinished',
  ]);
  t.same(log.tail(100).slice(0, 2), ['warning: no pni', '-device x: what?']);
  t.end();
});

void t.test('reads stay bounded and begin with a whole line', (t) => {
  const path = join(tempDir(t), 'qemu.log');
  writeFileSync(path, '');
  const log = new QemuLog(host, path, 0);
  appendFileSync(path, `${'x'.repeat(99)}\n`.repeat(5000));
  appendFileSync(path, 'qemu-system-x86_64: the end\n');
  t.equal(log.tail(1000).length, 82, '8 KiB of it');
  t.same([...new Set(log.tail(1000))], ['x'.repeat(99), 'the end']);
  t.end();
});

void t.test('no file is an empty log; a link in its place is refused', (t) => {
  const dir = tempDir(t);
  const path = join(dir, 'qemu.log');
  t.same(new QemuLog(host, path, 0).tail(), []);
  symlinkSync('/etc/hostname', path);
  t.throws(() => QemuLog.create(host, path), { name: 'VmError' });
  t.throws(() => new QemuLog(host, path, 0).tail(), { name: 'VmError' });
  t.end();
});

void t.test('a log that grows without end is cut, and what comes next is still read', async (t) => {
  const path = join(tempDir(t), 'qemu.log');
  writeFileSync(path, 'qemu-system-x86_64: an older process\n');
  const { log, fd } = QemuLog.create(host, path);
  t.teardown(() => fd[Symbol.dispose]());
  const small = log.keepSmall();
  t.teardown(() => small[Symbol.dispose]());
  const line = `qemu-system-x86_64: warning: ${'x'.repeat(100)}\n`;
  const cut = async (): Promise<void> => {
    // The file is being looked at, or will be when its rest is over.
    while (statSync(path).size > 100_000) await delay(10);
  };
  for (let round = 0; round < 2; round++) {
    for (let written = 0; written < 3 << 20; written += 1000 * line.length)
      writeSync(fd.fd, line.repeat(1000));
    await cut();
    t.match(readFileSync(path, 'latin1'), /^\[vmshim: \d{7} bytes of this log were dropped\]$/m);
  }
  writeSync(fd.fd, 'qemu-system-x86_64: the last words\n');
  t.equal(log.start, 0);
  t.equal(log.tail(1).join(), 'the last words');
  t.match(log.readWarnings(), [/^x+$/]);
  t.match(new QemuLog(host, path, 1 << 30).tail(1), ['the last words'], 'an offset from before the cut');
});
