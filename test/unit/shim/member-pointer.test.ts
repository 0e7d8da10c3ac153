import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { listMembers, nameMember } from '../../../src/shim/member-pointer.ts';
import { tempDir } from '../../support/temp-dir.ts';

const host = new LinuxHost();

void t.test('a bundle names the records of the pod’s containers', (t) => {
  const directory = tempDir(t);
  const bundle = join(directory, 'bundle');
  const record = (id: string): string => join(directory, `${id}.json`);
  mkdirSync(bundle);
  t.same(listMembers(host, bundle), []);

  const first = nameMember(host, bundle, 'a', record('a'));
  const second = nameMember(host, bundle, 'b', record('b'));
  writeFileSync(join(bundle, 'config.json'), '{}');
  t.same(listMembers(host, bundle), [record('a'), record('b')]);

  writeFileSync(record('a'), '{}');
  first[Symbol.dispose]();
  t.same(listMembers(host, bundle), [record('a'), record('b')], 'what is not cleaned up stays named');
  rmSync(record('a'));
  first[Symbol.dispose]();
  second[Symbol.dispose]();
  t.same(readdirSync(bundle), ['config.json']);

  rmSync(bundle, { recursive: true });
  const late = nameMember(host, bundle, 'c', record('c'));
  t.notOk(existsSync(bundle), 'a bundle that has gone is not made again');
  late[Symbol.dispose]();
  t.same(listMembers(host, bundle), []);
  t.end();
});
