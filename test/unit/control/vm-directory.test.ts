import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { findVm } from '../../../src/control/vm-directory.ts';
import { readVmRecords } from '../../../src/vm/record-directory.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { RECORD_FORMAT, type VmRecord } from '../../../src/vm/record.ts';
import { tempDir } from '../../support/temp-dir.ts';

const vm = (namespace: string, id: string, name = id, createdAt = 1): VmRecord =>
  ({ format: RECORD_FORMAT, namespace, id, name, createdAt }) as Partial<VmRecord> as VmRecord;

void t.test('the records of a state directory, oldest first', (t) => {
  const directory = tempDir(t);
  const host = new LinuxHost();
  const write = (key: string, text: string): void => {
    mkdirSync(join(directory, key));
    writeFileSync(join(directory, key, 'record.json'), text);
  };
  t.same(readVmRecords(host, directory), []);
  t.same(readVmRecords(host, join(directory, 'absent')), []);
  write('a', JSON.stringify(vm('n', 'young', 'young', 9)));
  write('b', JSON.stringify(vm('n', 'old', 'old', 3)));
  write('c', '{');
  write('d', '{"format":99}');
  mkdirSync(join(directory, 'e'));
  writeFileSync(join(directory, 'qemu-0123.json'), '{}');
  t.same(
    readVmRecords(host, directory).map(({ id }) => id),
    ['old', 'young'],
    'what is no record is passed over',
  );
  t.end();
});

void t.test('the VM that a user means', (t) => {
  const web = vm('default', 'abc123', 'web');
  const db = vm('default', 'abd456', 'db');
  const pod = vm('k8s.io', 'abc123', 'web');
  const exact = vm('default', 'abc');
  const find = (wanted: string, namespace?: string, among = [web, db, pod]): VmRecord =>
    findVm(among, wanted, namespace);
  t.equal(find('abd'), db, 'the beginning of an id');
  t.equal(find('db'), db, 'a name');
  t.equal(find('abc123', 'k8s.io'), pod);
  t.equal(find('web', 'default'), web);
  t.equal(find('abc', undefined, [web, exact]), exact, 'a whole id comes before the beginning of another');
  const several = {
    kind: 'InvalidArgument',
    message: /fits several VMs \(default\/abc123, k8s\.io\/abc123\); give the whole id/,
  };
  t.throws(() => find('abc123'), several);
  t.throws(() => find('web'), several);
  t.throws(() => find('ab', 'default'), { kind: 'InvalidArgument', message: /fits several/ });
  for (const [wanted, namespace] of [['x'], ['', undefined], ['web', 'other'], ['123']] as const) {
    t.throws(
      () => find(wanted, namespace),
      { kind: 'NotFound', message: /no VM ".*" on this node; "vmctl list"/ },
      wanted,
    );
  }
  t.throws(
    () => find('', undefined, [web]),
    { kind: 'NotFound', message: /no VM ""/ },
    'nothing is not the beginning of everything',
  );
  t.end();
});
