import { chmodSync, readFileSync, renameSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { isAtLeast, parseQ35Alias, parseVersion, readQemuVersion } from '../../../src/qemu/qemu-version.ts';
import { tempDir } from '../../support/temp-dir.ts';

const host = new LinuxHost();

const machines = `Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)
pc-q35-6.0           Standard PC (Q35 + ICH9, 2009)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)
none                 empty machine
`;

/** A program that answers as QEMU does and notes each run. */
function fakeProgram(
  t: Test,
  version: string,
  machineHelp = machines,
): { file: string; dir: string; runs: () => number } {
  const dir = tempDir(t);
  const file = join(dir, 'qemu');
  const runs = join(dir, 'runs');
  writeFileSync(runs, '');
  writeFileSync(join(dir, 'machines'), machineHelp);
  writeFileSync(
    file,
    `#!/bin/sh\necho "$1" >> ${runs}\ncase "$1" in -version) echo '${version}';; -machine) cat ${dir}/machines;; esac\n`,
  );
  chmodSync(file, 0o755);
  return { file, dir, runs: () => readFileSync(runs, 'utf8').split('\n').length - 1 };
}

void t.test('parses what QEMU prints', (t) => {
  const table: [string, unknown][] = [
    ['QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright', { major: 7, minor: 2, micro: 22 }],
    ['QEMU emulator version 10.0.13', { major: 10, minor: 0, micro: 13 }],
    ['QEMU emulator version 11.1', { major: 11, minor: 1, micro: 0 }],
    ['warning: x\nQEMU emulator version 9.2.0\n', { major: 9, minor: 2, micro: 0 }],
    ['bash 5.2', undefined],
    ['', undefined],
  ];
  for (const [text, version] of table) t.same(parseVersion(text), version, text);
  t.equal(parseQ35Alias(machines), 'pc-q35-7.2');
  t.equal(
    parseQ35Alias(machines.replace('(alias of pc-q35-7.2)', '(alias of pc-q35-10.0) (deprecated)')),
    'pc-q35-10.0',
  );
  t.equal(parseQ35Alias('pc-q35-7.2 Standard PC\n'), undefined);
  t.ok(isAtLeast({ major: 10, minor: 0 }, 8, 2));
  t.ok(isAtLeast({ major: 8, minor: 2 }, 8, 2));
  t.notOk(isAtLeast({ major: 8, minor: 1 }, 8, 2));
  t.notOk(isAtLeast({ major: 7, minor: 9 }, 8, 2));
  t.end();
});

void t.test('asks a program once, until it changes', async (t) => {
  const { file, dir, runs } = fakeProgram(t, 'QEMU emulator version 7.2.22');
  const expected = { major: 7, minor: 2, micro: 22, q35: 'pc-q35-7.2' };
  t.same(await readQemuVersion(host, file, { stateDir: dir }), expected);
  t.equal(runs(), 2);
  t.same(await readQemuVersion(host, file, { stateDir: dir }), expected);
  t.equal(runs(), 2, 'from the cache');
  utimesSync(file, 1, 1);
  t.same(await readQemuVersion(host, file, { stateDir: dir }), expected);
  t.equal(runs(), 4, 'another mtime');
  const [cache] = host.listDir(dir).filter((name) => /^qemu-[0-9a-f]{16}\.json$/.test(name));
  for (const damage of ['', '[]', '{"key": "x"}']) {
    writeFileSync(join(dir, cache ?? ''), damage);
    t.same(await readQemuVersion(host, file, { stateDir: dir }), expected, `cache damaged by ${damage}`);
  }
  t.equal(runs(), 10);
});

void t.test('sees an update behind a link', async (t) => {
  const { file, dir } = fakeProgram(t, 'QEMU emulator version 7.2.22');
  const newer = fakeProgram(t, 'QEMU emulator version 10.0.1', machines.replaceAll('7.2', '10.0'));
  const link = join(dir, 'link');
  symlinkSync('qemu', link);
  t.match(await readQemuVersion(host, link, { stateDir: dir }), { major: 7, q35: 'pc-q35-7.2' });
  renameSync(newer.file, file);
  t.match(await readQemuVersion(host, link, { stateDir: dir }), { major: 10, q35: 'pc-q35-10.0' });
});

void t.test('refuses with a sentence that names the key', async (t) => {
  const dir = tempDir(t);
  const notQemu = fakeProgram(t, 'bash 5.2');
  const noQ35 = fakeProgram(t, 'QEMU emulator version 7.2.22', 'virt  ARM\n');
  const broken = fakeProgram(t, 'x');
  writeFileSync(broken.file, '#!/bin/sh\necho "cannot open library" >&2\nexit 127\n');
  symlinkSync('nowhere', join(dir, 'dangling'));
  const table: [string, RegExp][] = [
    [join(dir, 'none'), /does not exist; install the Debian package qemu-system-x86/],
    [join(dir, 'dangling'), /does not exist/],
    [notQemu.file, /prints no QEMU version/],
    [noQ35.file, /has no q35 machine/],
    [broken.file, /cannot open library/],
    ['/etc/hostname', /hostname/],
  ];
  for (const [file, message] of table) {
    const error: unknown = await readQemuVersion(host, file, { stateDir: dir }).catch(
      (error: unknown) => error,
    );
    t.ok(VmError.is(error, 'FailedPrecondition'), file);
    t.match(error, { message });
    t.match(error, { message: /config key "qemu"/ });
  }
  const aborted: unknown = await readQemuVersion(host, noQ35.file, {
    stateDir: dir,
    signal: AbortSignal.abort(),
  }).catch((error: unknown) => error);
  t.ok(VmError.is(aborted, 'Canceled'));
  t.same(host.listDir(dir), ['dangling'], 'a failure is not kept');
});
