import { execFileSync } from 'node:child_process';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { HEADER_BYTES, parseQcow2Header } from '../../../src/storage/qcow2-header.ts';
import { qcow2Overlay, type Qcow2OverlayPlan } from '../../../src/storage/qcow2-overlay.ts';
import { tempDir } from '../../support/temp-dir.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;
const plan = (virtualSize: number, rest: Partial<Qcow2OverlayPlan> = {}): Qcow2OverlayPlan => ({
  virtualSize,
  backingFile: 'vmshim-base-v1/1/2/3',
  backingFormat: 'raw',
  ...rest,
});

/** Without "backing": null qemu-img would look for the base by its name. */
function qemuImg(command: 'check' | 'info', path: string): Record<string, unknown> {
  const image = {
    driver: 'qcow2',
    file: { driver: 'file', filename: path },
    backing: null,
  };
  const output = execFileSync('qemu-img', [command, '--output=json', `json:${JSON.stringify(image)}`], {
    encoding: 'utf8',
  });
  return JSON.parse(output) as Record<string, unknown>;
}

void t.test('it is the image that qemu-img create makes', (t) => {
  const dir = tempDir(t);
  const [ours, theirs] = [join(dir, 'ours'), join(dir, 'theirs')];
  const sizes = [0, 512, 64 * MIB, 512 * MIB - 512, 512 * MIB, 512 * MIB + 512, 10 * GIB, TIB, 64 * TIB];
  for (const size of sizes) {
    for (const backingFormat of ['raw', 'qcow2']) {
      writeFileSync(ours, qcow2Overlay(plan(size, { backingFormat })));
      const args = ['create', '-q', '-f', 'qcow2', '-u', '-F', backingFormat, '-b', 'vmshim-base-v1/1/2/3'];
      execFileSync('qemu-img', [...args, theirs, String(size)]);
      const { 'actual-size': _, filename: __, ...info } = qemuImg('info', ours);
      const { 'actual-size': ___, filename: ____, ...expected } = qemuImg('info', theirs);
      t.same(info, expected, `${size} over ${backingFormat}`);
      t.equal(statSync(ours).size, statSync(theirs).size, 'the same file size');
      t.match(qemuImg('check', ours), {
        'check-errors': 0,
        ...(size === 0 ? {} : { 'total-clusters': Math.ceil(size / 65_536) }),
      });
      t.notOk('leaks' in qemuImg('check', ours) || 'corruptions' in qemuImg('check', ours));
    }
  }
  t.end();
});

void t.test('QEMU reads zeros from it and writes into it', (t) => {
  const path = join(tempDir(t), 'disk');
  writeFileSync(path, qcow2Overlay(plan(10 * GIB)));
  const image = `json:${JSON.stringify({ driver: 'qcow2', file: { driver: 'file', filename: path }, backing: null })}`;
  const said = execFileSync(
    'qemu-io',
    ['-c', 'read -P 0 9G 64k', '-c', 'write -P 7 9G 1M', '-c', 'read -P 7 9G 1M', image],
    { encoding: 'utf8' },
  );
  t.equal(said.match(/^(read|wrote) /gm)?.length, 3, said);
  t.notMatch(said, 'Pattern verification failed');
  t.match(qemuImg('check', path), {
    'check-errors': 0,
    'allocated-clusters': 16,
  });
  t.end();
});

void t.test('our own parser reads back what was asked for', (t) => {
  const sizes = fc.integer({ min: 1, max: (64 * TIB) / 512 }).map((sectors) => sectors * 512);
  const names = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 120 });
  fc.assert(
    fc.property(sizes, names, fc.constantFrom('raw', 'qcow2'), (virtualSize, backingFile, backingFormat) => {
      fc.pre(Buffer.byteLength(backingFile) <= 1023);
      const file = qcow2Overlay({ virtualSize, backingFile, backingFormat });
      const header = parseQcow2Header(file.subarray(0, HEADER_BYTES), {
        name: 'x',
        fileBytes: file.length,
        backing: 'allowed',
      });
      const backing = {
        file: Buffer.from(backingFile).toString(),
        format: backingFormat,
      };
      t.same(header, { version: 3, clusterBits: 16, virtualSize, backing });
    }),
    { numRuns: 60 },
  );
  t.end();
});

void t.test('a plan outside the format’s limits is a bug of the caller', (t) => {
  for (const size of [-512, 1, 511.5, Number.NaN, 64 * TIB + 512]) {
    t.throws(() => qcow2Overlay(plan(size)), RangeError, String(size));
  }
  t.throws(() => qcow2Overlay(plan(512, { backingFile: '' })), RangeError);
  t.throws(() => qcow2Overlay(plan(512, { backingFile: 'x'.repeat(1024) })), RangeError);
  t.doesNotThrow(() => qcow2Overlay(plan(512, { backingFile: 'x'.repeat(1023) })));
  t.end();
});
