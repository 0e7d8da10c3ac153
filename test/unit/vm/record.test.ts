import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { readRecord, RECORD_FORMAT, type VmRecord, writeRecord } from '../../../src/vm/record.ts';
import { findRecord, writeRecordPointer } from '../../../src/vm/record-pointer.ts';
import { tempDir } from '../../support/temp-dir.ts';

const host = new LinuxHost();

const record = (runDir: string): VmRecord =>
  ({
    format: RECORD_FORMAT,
    id: 'c1',
    namespace: 'ns',
    name: 'web',
    runDir,
    qemu: { pid: 7, startTime: 8 },
    exit: { status: 0, at: 9, reason: { kind: 'guest-shutdown' } },
  }) as Partial<VmRecord> as VmRecord;

void t.test('a record comes back as it was written', (t) => {
  const runDir = tempDir(t);
  const path = join(runDir, 'record.json');
  t.equal(readRecord(host, path), undefined);
  writeRecord(host, record(runDir));
  t.same(readRecord(host, path), record(runDir));
  t.equal(statSync(path).mode & 0o777, 0o600);
  writeRecord(host, { ...record(runDir), name: 'other' });
  t.equal(readRecord(host, path)?.name, 'other');
  t.same(readdirSync(runDir), ['record.json'], 'no temporary file is left');
  t.equal(readRecord(host, join(runDir, 'record.json/below')), undefined, 'a path that cannot be');
  t.end();
});

void t.test('what is no record is refused, never guessed', (t) => {
  const path = join(tempDir(t), 'record.json');
  for (const [text, message] of [
    ['{"format":', /is not JSON/],
    ['', /is not JSON/],
    ['null', /has a format this version does not know/],
    ['[]', /has a format/],
    ['{}', /has a format/],
    [`{"format":${RECORD_FORMAT + 1}}`, /use the newer containerd-shim-vm/],
  ] as const) {
    writeFileSync(path, text);
    t.throws(() => readRecord(host, path), { kind: 'Internal', message }, text);
  }
  t.end();
});

void t.test('the pointer in the bundle', (t) => {
  const bundle = tempDir(t);
  t.equal(findRecord(host, bundle), undefined);
  writeRecordPointer(host, bundle, '/run/vmshim/k/record.json');
  t.equal(findRecord(host, bundle), '/run/vmshim/k/record.json');
  const [name = ''] = readdirSync(bundle);
  for (const odd of ['', '\n', 'relative/record.json']) {
    writeFileSync(join(bundle, name), odd);
    t.equal(findRecord(host, bundle), undefined, JSON.stringify(odd));
  }
  t.notOk(existsSync(join(bundle, 'record.json')));
  mkdirSync(join(bundle, 'empty'));
  t.equal(findRecord(host, join(bundle, 'empty')), undefined);
  t.equal(findRecord(host, '/nonexistent'), undefined);
  t.end();
});
