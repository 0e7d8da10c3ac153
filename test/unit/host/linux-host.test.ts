import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { tempDir } from '../../support/temp-dir.ts';

const host = new LinuxHost();

void t.test('text is read and written, and a missing file is NotFound by name', (t) => {
  const dir = tempDir(t);
  const path = join(dir, 'a');
  host.writeText(path, 'ä\n');
  t.equal(host.readText(path), 'ä\n');
  t.throws(() => host.readText(join(dir, 'b')), {
    name: 'VmError',
    kind: 'NotFound',
    message: `cannot read ${dir}/b: it does not exist (ENOENT)`,
    cause: { code: 'ENOENT' },
  });
  t.throws(() => host.readText(join(path, 'b')), { name: 'VmError', kind: 'NotFound' });
  t.throws(() => host.readText(dir), { kind: 'Internal', message: new RegExp(`read ${dir}`) });
  t.end();
});

void t.test('readBytes reads a part and stops at the end', (t) => {
  const path = join(tempDir(t), 'a');
  writeFileSync(path, '0123456789');
  using file = host.open(path, constants.O_RDONLY);
  t.equal(host.readBytes(file.fd, 2, 3).toString(), '234');
  t.equal(host.readBytes(file.fd, 8, 100).toString(), '89');
  t.equal(host.readBytes(file.fd, 50, 1).length, 0);
  t.end();
});

void t.test(
  'replaceFile gives the exact mode, replaces the name and not the old file, and leaves nothing else',
  (t) => {
    const dir = tempDir(t);
    const path = join(dir, 'record.json');
    const umask = process.umask(0o777);
    try {
      host.replaceFile(path, 'one', 0o640);
    } finally {
      process.umask(umask);
    }
    t.equal(statSync(path).mode & 0o7777, 0o640);
    const old = openSync(path, constants.O_RDONLY);
    host.replaceFile(path, 'two', 0o600);
    t.equal(readFileSync(old, 'utf8'), 'one', 'a reader keeps the whole old text');
    closeSync(old);
    t.equal(readFileSync(path, 'utf8'), 'two');
    t.equal(statSync(path).mode & 0o7777, 0o600);
    t.strictSame(readdirSync(dir), ['record.json']);

    mkdirSync(join(dir, 'd'));
    writeFileSync(join(dir, 'd', 'x'), '');
    t.throws(() => host.replaceFile(join(dir, 'd'), 'text', 0o600), {
      message: new RegExp(`replace ${dir}/d`),
    });
    t.throws(() => host.replaceFile(join(dir, 'none/x'), 'text', 0o600), {
      name: 'VmError',
      kind: 'NotFound',
    });
    t.strictSame(readdirSync(dir), ['d', 'record.json'], 'a failure leaves no temporary file');
    t.end();
  },
);

void t.test('replaceFile does not write through a link planted at its temporary name', (t) => {
  const dir = tempDir(t);
  const victim = join(dir, 'victim');
  writeFileSync(victim, 'mine');
  symlinkSync(victim, join(dir, `.r.${process.pid}.tmp`));
  t.throws(() => host.replaceFile(join(dir, 'r'), 'text', 0o600), { cause: { code: 'ELOOP' } });
  t.equal(readFileSync(victim, 'utf8'), 'mine');
  t.end();
});

void t.test('directories are made with their mode, listed in order and removed', (t) => {
  const dir = tempDir(t);
  const path = join(dir, 'x/y');
  const umask = process.umask(0o077);
  try {
    host.makeDir(path, 0o755);
  } finally {
    process.umask(umask);
  }
  t.equal(statSync(path).mode & 0o7777, 0o755);
  host.makeDir(path, 0o700);
  t.equal(statSync(path).mode & 0o7777, 0o755, 'an existing one keeps its mode');
  for (const name of ['b', 'c', 'a']) writeFileSync(join(path, name), '');
  t.strictSame(host.listDir(path), ['a', 'b', 'c']);
  t.throws(() => host.makeDir(join(path, 'a'), 0o700), { name: 'VmError', kind: 'AlreadyExists' });
  t.throws(() => host.remove(path), { kind: 'FailedPrecondition', message: /not empty/ });
  for (const name of ['a', 'b', 'c', 'c']) host.remove(join(path, name));
  host.remove(path);
  host.remove(path);
  t.throws(() => host.listDir(path), { name: 'VmError', kind: 'NotFound' });
  t.end();
});

void t.test('inspect tells every kind without following links', async (t) => {
  const dir = tempDir(t);
  writeFileSync(join(dir, 'file'), 'abc', { mode: 0o640 });
  symlinkSync('nowhere', join(dir, 'link'));
  execFileSync('mkfifo', [join(dir, 'fifo')]);
  const server = createServer().listen(join(dir, 'sock'));
  await once(server, 'listening');
  const kind = (path: string): string | undefined => host.inspect(path)?.kind;
  t.match(host.inspect(join(dir, 'file')), { kind: 'file', size: 3, mode: 0o640, uid: process.getuid?.() });
  t.equal(kind(dir), 'directory');
  t.equal(kind(join(dir, 'link')), 'symlink');
  t.equal(kind(join(dir, 'fifo')), 'fifo');
  t.equal(kind(join(dir, 'sock')), 'socket');
  t.equal(kind('/dev/null'), 'char-device');
  t.equal(kind(join(dir, 'none')), undefined);
  t.equal(kind(join(dir, 'file/below')), undefined);
  server.close();
});

void t.test('an owned descriptor is closed once and not used afterwards', (t) => {
  const file = host.open('/dev/null', constants.O_RDONLY);
  const number = file.fd;
  file[Symbol.dispose]();
  const other = openSync('/dev/null', constants.O_RDONLY);
  t.equal(other, number, 'the number is free again');
  file[Symbol.dispose]();
  t.ok(readFileSync(`/proc/self/fdinfo/${other}`), 'a second dispose leaves its new owner alone');
  closeSync(other);
  t.throws(() => file.fd, { name: 'VmError', kind: 'Internal' });
  t.throws(() => host.open('/nonexistent', constants.O_RDONLY), { name: 'VmError', kind: 'NotFound' });
  t.end();
});
