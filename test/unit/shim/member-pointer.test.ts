import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { listMembers, nameMember } from '../../../src/shim/member-pointer.ts';
import { tempDir } from '../../support/temp-dir.ts';

const host = new LinuxHost();

void t.test('a sandbox’s bundle names the VMs of its pod', (t) => {
  const bundle = tempDir(t);
  t.same(listMembers(host, bundle), []);
  const records = ['a', 'b'].map((name) => join(bundle, name));
  const names = records.map((record, index) => {
    writeFileSync(record, '');
    return nameMember(host, bundle, `vm${index}`, record);
  });
  t.same(listMembers(host, bundle).sort(), records);
  names[0]?.[Symbol.dispose]();
  t.same(listMembers(host, bundle).sort(), records, 'what could not be cleaned up stays named');
  rmSync(records[0] ?? '');
  names[0]?.[Symbol.dispose]();
  t.same(listMembers(host, bundle), [records[1]]);
  t.same(listMembers(host, '/nonexistent'), []);
  t.end();
});
