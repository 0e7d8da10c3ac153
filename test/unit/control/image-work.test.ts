/** Unpacking and converting untrusted files: what the programs may do, and what bounds them. */
import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { runConfined } from '../../../src/control/confined-program.ts';
import { convertToQcow2 } from '../../../src/control/image-convert.ts';
import type { ImportReport } from '../../../src/control/import-report.ts';
import { nameOfSource } from '../../../src/control/image-import-command.ts';
import { openImportSource } from '../../../src/control/image-source.ts';
import { SpaceLimit } from '../../../src/control/space-limit.ts';
import { unpackFile } from '../../../src/control/image-unpack.ts';
import { makeRaw } from '../../support/hostile-images.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { WatchedHost } from '../storage/support/watched-host.ts';

const MIB = 2 ** 20;

function report(signal = new AbortController().signal): ImportReport & { readonly steps: string[] } {
  const steps: string[] = [];
  return { signal, steps, step: (what) => steps.push(what), progress: () => undefined };
}

/** Opens, unpacks and converts, and gives what came out. */
async function work(
  t: Test,
  source: string,
  options: { readonly maxSize?: number; readonly signal?: AbortSignal; readonly convert?: boolean } = {},
): Promise<{ readonly bytes: Buffer; readonly from: string; readonly steps: string[] }> {
  const host = new WatchedHost();
  const temp = tempDir(t);
  const limits = { tempDir: temp, maxSize: options.maxSize ?? 2 ** 40, needsBootSector: true };
  const told = report(options.signal);
  try {
    using files = new DisposableStack();
    const opened = await openImportSource(host, { source, sha256: undefined, ...limits }, files, told);
    const plain = await unpackFile(host, opened, limits, files, told);
    const result =
      options.convert === false
        ? { file: plain, from: '' }
        : await convertToQcow2(host, plain, limits, files, told);
    t.same(readdirSync(temp), [], 'no file has a name at any time');
    return { bytes: readFileSync(`/proc/self/fd/${result.file.fd}`), from: result.from, steps: told.steps };
  } finally {
    t.equal(host.openFds.size, 0, 'every descriptor is closed');
  }
}

void t.test('packed files are unpacked as their own programs do', async (t) => {
  const dir = tempDir(t);
  const path = join(dir, 'plain');
  writeFileSync(path, Buffer.from(Array.from({ length: 3 * MIB }, (_, i) => i >> 9)));
  const plain = readFileSync(path);
  for (const program of ['gzip', 'xz', 'zstd', 'bzip2']) {
    // Two parts one after the other, as parallel packers write them.
    const part = execFileSync(program, ['-c', path], { maxBuffer: 2 ** 26 });
    writeFileSync(`${path}.${program}`, Buffer.concat([part, part]));
    chmodSync(`${path}.${program}`, 0o600);
    const { bytes, steps } = await work(t, `${path}.${program}`, { convert: false });
    t.ok(bytes.equals(Buffer.concat([plain, plain])), program);
    t.same(steps, [`unpacking (${program})`]);

    writeFileSync(`${path}.cut`, part.subarray(0, part.length - 100));
    const message = new RegExp(`unpacking ".*plain.cut" with ${program} failed: .*; the file is damaged`);
    await t.rejects(work(t, `${path}.cut`), { kind: 'InvalidArgument', message }, program);
  }
});

void t.test('a bomb ends at --max-size', async (t) => {
  const dir = tempDir(t);
  const path = join(dir, 'bomb');
  execFileSync('truncate', ['-s', '1G', path]);
  for (const program of ['zstd', 'xz']) {
    execFileSync('sh', ['-c', `head -c 200M "$1" | ${program} -1 > "$1.${program}"`, 'sh', path]);
    const message = /larger than --max-size 8Mi; raise it/;
    await t.rejects(
      work(t, `${path}.${program}`, { maxSize: 8 * MIB }),
      { kind: 'ResourceExhausted', message },
      program,
    );
  }
});

void t.test('a disk only its owner may read is copied for the converter', async (t) => {
  const path = join(tempDir(t), 'disk');
  makeRaw(path, 4 * MIB);
  for (const [mode, copies] of [
    [0o644, 0],
    [0o600, 1],
  ] as const) {
    chmodSync(path, mode);
    const { bytes, from, steps } = await work(t, path);
    t.equal(from, 'raw');
    t.equal(steps.filter((step) => step.startsWith('copying')).length, copies);
    const out = join(tempDir(t), 'out');
    writeFileSync(out, bytes);
    execFileSync('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', out, path]);
  }
});

void t.test('a converted disk is bounded, too', async (t) => {
  const path = join(tempDir(t), 'disk');
  makeRaw(path);
  const image = Buffer.concat([readFileSync(path), Buffer.alloc(16 * MIB, 7)]);
  writeFileSync(path, image);
  await t.rejects(work(t, path, { maxSize: 4 * MIB }), {
    kind: 'ResourceExhausted',
    message: /--max-size 4Mi/,
  });
});

void t.test('a damaged image is said to be so, with the converter’s own words', async (t) => {
  const path = join(tempDir(t), 'disk');
  execFileSync('qemu-img', ['create', '-q', '-f', 'vhdx', path, '16M']);
  const image = readFileSync(path);
  image.fill(0, 65_536, MIB);
  writeFileSync(path, image);
  const message = /converting ".*disk" from vhdx failed: "qemu-img: .*"; the file is damaged/;
  await t.rejects(work(t, path), { kind: 'InvalidArgument', message });
});

void t.test('a confined program is nobody, without network, and ends with its limits', async (t) => {
  const host = new WatchedHost();
  const dir = tempDir(t);
  const limit = new SpaceLimit(host, dir, MIB);
  const shell = async (script: string, signal = new AbortController().signal): Promise<string> => {
    using out = host.temporaryFile(dir, 0o600);
    const program = {
      file: '/bin/sh',
      args: ['-c', script],
      fds: { stdin: null, stdout: out.fd, more: [] },
      limit,
    };
    await runConfined(host, program, { what: 'the script', tempDir: dir, signal });
    return readFileSync(`/proc/self/fd/${out.fd}`, 'latin1');
  };
  process.env['VMSHIM_MARK'] = '1';
  const seen = await shell(
    'id -u; id -G; ls /sys/class/net; grep -E "NoNewPrivs|CapEff" /proc/self/status; ulimit -v; env',
  );
  t.match(seen, /^(21\d{8})\n\1\n/, 'a user and group of its own, no others');
  t.match(seen, /NoNewPrivs:\t1/);
  t.match(seen, /CapEff:\t0{16}\n/);
  t.match(seen, /\n2097152\n/, '2 GiB of address space');
  // tap puts variables of its own into every process that a test starts.
  t.notMatch(seen, /HOME|SSH|VMSHIM_MARK/, 'nothing of our environment');
  t.equal(
    await shell('tail -n +3 /proc/net/dev'),
    (await shell('tail -n +3 /proc/net/dev')).replace(/^(?!\s*lo:).*\n/gm, ''),
  );
  const tooLarge = { kind: 'ResourceExhausted', message: /larger than --max-size 1Mi/ };
  await t.rejects(shell('exec head -c 2000000 /dev/zero'), tooLarge, 'ended by a signal');
  await t.rejects(shell('trap "" XFSZ; exec head -c 2000000 /dev/zero'), tooLarge, 'told by an error');
  t.match(await shell('ulimit -t'), /^61\n/, 'CPU time');
  await t.rejects(shell('echo why >&2; exit 3'), { message: /the script failed: "why"/ });
  await t.rejects(shell('cat /etc/shadow'), { message: /Permission denied/ });

  const controller = new AbortController();
  const canceled = shell('kill -STOP $$', controller.signal);
  controller.abort();
  await t.rejects(canceled, { kind: 'Canceled', message: /canceled/ });
  t.equal(host.openFds.size, 0);
});

void t.test('a file system that others fill meanwhile ends an import early', (t) => {
  class FillingHost extends WatchedHost {
    free = 10 * 2 ** 30;
    override freeBytes(): number {
      return this.free;
    }
  }
  const host = new FillingHost();
  const limit = new SpaceLimit(host, '/var/tmp', 2 ** 40);
  limit.expect(2 ** 30);
  limit.check(MIB);
  host.free = 100 * MIB;
  const message = /needs more space than "\/var\/tmp" has \(512Mi are left free\).*--temp-dir/;
  t.throws(() => limit.check(65 * MIB), { kind: 'ResourceExhausted', message });
  t.throws(() => limit.expect(11 * 2 ** 30), { kind: 'ResourceExhausted', message });
  t.throws(() => limit.expect(2 ** 41), { kind: 'ResourceExhausted', message: /--max-size 1Ti/ });
  t.end();
});

void t.test('names that are made of files and URLs', (t) => {
  const cases: [string, string][] = [
    ['/a/Debian_12 (x).qcow2', 'debian-12-x'],
    ['https://h/x/debian-12-generic-amd64.raw.xz?sig=1', 'debian-12-generic-amd64'],
    ['disk', 'disk'],
    ['win.VHDX.zst', 'win'],
  ];
  for (const [source, name] of cases) t.equal(nameOfSource(source), name);
  t.throws(() => nameOfSource('https://h/'), { message: /--name/ });
  t.end();
});
