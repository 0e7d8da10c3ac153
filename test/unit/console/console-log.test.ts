import { readFileSync, statSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { ByteRing } from '../../../src/shim/console/byte-ring.ts';
import { ConsoleLog } from '../../../src/shim/console/console-log.ts';
import { type Lab, inLab, numbered } from './console-lab.ts';

function readAll(log: ConsoleLog, from: number): string {
  let text = '';
  for (let at = from; at < log.end;) {
    const data = log.read(at, 7);
    if (data === undefined) {
      const next = log.nextAfter(at) ?? log.end;
      text += `<${next - at} missing>`;
      at = next;
    } else {
      text += data.toString();
      at += data.length;
    }
  }
  return text;
}

function kindThrown(act: () => unknown): string | undefined {
  try {
    act();
  } catch (error) {
    return error instanceof VmError ? error.kind : 'not a VmError';
  }
  return undefined;
}

const open = (lab: Lab, bytes: number, files: number): ConsoleLog =>
  new ConsoleLog(lab.host, lab.path('console.log'), { bytes, files, report: lab.report });

void t.test('a ring holds exactly the last bytes of any stream', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9000 }),
      fc.nat(100_000),
      fc.array(fc.nat(6000), { maxLength: 12 }),
      (limit, origin, sizes) => {
        const ring = new ByteRing(limit, origin);
        let all = Buffer.alloc(0);
        for (const size of sizes) {
          const chunk = Buffer.from(Array.from({ length: size }, (_, i) => (all.length + i) % 251));
          ring.push(chunk);
          all = Buffer.concat([all, chunk]);
        }
        const start = Math.max(0, all.length - limit);
        return (
          ring.start === origin + start &&
          ring.end === origin + all.length &&
          ring.read(ring.start, 1 << 20).equals(all.subarray(start)) &&
          ring.read(ring.end, 5).length === 0
        );
      },
    ),
  );
  t.end();
});

void t.test('the log rotates, keeps its bound and is private', (t) =>
  inLab(t, (lab) => {
    using log = open(lab, 100, 3);
    for (let i = 0; i < 50; i++) log.append(numbered(16, i * 16));
    t.equal(log.end, 800);
    const all = ['console.log.2', 'console.log.1', 'console.log'].map((n) =>
      readFileSync(lab.path(n), 'latin1'),
    );
    t.ok(all.every((text) => text.length <= 100));
    const text = all.join('');
    t.ok(text.length >= 200, 'at least two full files are kept');
    t.equal(text, numbered(800).toString('latin1').slice(-text.length));
    t.equal(readAll(log, 800 - text.length), text);
    t.match(readAll(log, 0), /^<\d+ missing>0/);
    for (const name of ['console.log', 'console.log.1'])
      t.equal(statSync(lab.path(name)).mode & 0o777, 0o600);
    t.throws(() => statSync(lab.path('console.log.3')));
    t.throws(() => statSync(lab.path('console.log.new')));
  }),
);

void t.test('a log goes on where the shim before left it, and forgets files beyond its bound', (t) =>
  inLab(t, (lab) => {
    writeFileSync(lab.path('console.log'), 'new');
    writeFileSync(lab.path('console.log.1'), 'old');
    writeFileSync(lab.path('console.log.2'), 'older');
    writeFileSync(lab.path('console.log.3'), 'oldest');
    using log = open(lab, 1000, 2);
    t.equal(log.end, 6);
    log.append(Buffer.from('est'));
    t.equal(readAll(log, 0), 'oldnewest');
    t.equal(readFileSync(lab.path('console.log'), 'latin1'), 'newest');
    t.throws(() => statSync(lab.path('console.log.2')));
    t.throws(() => statSync(lab.path('console.log.3')));
  }),
);

void t.test('a single file is enough', (t) =>
  inLab(t, (lab) => {
    using log = open(lab, 32, 1);
    for (let i = 0; i < 5; i++) log.append(numbered(16, i * 16));
    t.equal(readFileSync(lab.path('console.log'), 'latin1'), numbered(16, 64).toString());
  }),
);

void t.test('a full disk loses bytes, says so, and never throws', (t) =>
  inLab(t, (lab) => {
    using log = open(lab, 1000, 2);
    lab.host.room = 6;
    log.append(Buffer.from('first '));
    lab.host.room = 4;
    log.append(Buffer.from('second '));
    log.append(Buffer.from('third '));
    t.equal(log.droppedBytes, 9);
    t.equal(lab.reports.length, 1);
    t.match(lab.reports[0], /cannot be written, the guest runs on without it: no space left/);
    lab.host.room = 10;
    log.append(Buffer.from('even the remark does not fit'));
    lab.host.room = Number.POSITIVE_INFINITY;
    log.append(Buffer.from('fourth'));
    t.match(lab.reports.at(-1), /is written again, 37 bytes of output are missing/);
    t.equal(readAll(log, 0), 'first seco<37 missing>fourth');
    t.match(
      readFileSync(lab.path('console.log'), 'latin1'),
      /\n\[vmshim: 37 bytes of console output could not be logged\]\nfourth$/,
    );
    t.equal(readFileSync(lab.path('console.log.1'), 'latin1'), 'first seco');
  }),
);

void t.test('a disk that is full at opening is borne, other errors are not', (t) =>
  inLab(t, (lab) => {
    const { host } = lab;
    const real = host.open.bind(host);
    host.open = () => {
      throw new VmError('ResourceExhausted', 'no space left on device');
    };
    using log = open(lab, 1000, 2);
    log.append(Buffer.from('lost'));
    t.equal(log.droppedBytes, 4);
    host.open = real;
    log.append(Buffer.from('kept'));
    t.equal(readAll(log, 0), '<4 missing>kept');
    t.equal(
      kindThrown(() => new ConsoleLog(host, lab.path('absent/console.log'))),
      'NotFound',
    );
    t.equal(
      kindThrown(() => open(lab, 0, 2)),
      'InvalidArgument',
    );
    t.equal(
      kindThrown(() => open(lab, 10, 0)),
      'InvalidArgument',
    );
  }),
);

void t.test('a log that somebody truncated reads as missing', (t) =>
  inLab(t, (lab) => {
    using log = open(lab, 1000, 2);
    log.append(Buffer.from('gone'));
    writeFileSync(lab.path('console.log'), '');
    t.equal(readAll(log, 0), '<4 missing>');
  }),
);
