import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { DriveFile, GuestData } from '../../../../src/storage/guest-data/guest-data.ts';
import { nocloudFiles } from '../../../../src/storage/guest-data/nocloud-files.ts';
import { openstackFiles } from '../../../../src/storage/guest-data/openstack-files.ts';
import { full, plain } from './sample-data.ts';

// UPDATE_GOLDEN=1 writes what is made now; read the diff before committing it.
const update = process.env['UPDATE_GOLDEN'] === '1';

const cases: Readonly<Record<string, DriveFile[]>> = {
  'openstack-plain': openstackFiles(plain),
  'openstack-full': openstackFiles(full),
  'openstack-dhcp': openstackFiles({
    ...full,
    network: 'dhcp',
    vendorData: '{"site": 1}',
    passwordHash: undefined,
  }),
  'nocloud-plain': nocloudFiles({ ...plain, kind: 'nocloud' }),
  'nocloud-full': nocloudFiles({ ...full, kind: 'nocloud' }),
};

/** Every document once, with all the paths that it has. */
function print(files: readonly DriveFile[]): string {
  const paths = Map.groupBy(files, ({ content }) => Buffer.from(content).toString('latin1'));
  return [...paths]
    .map(([content, at]) => {
      const text = Buffer.from(content, 'latin1').toString().replaceAll('\r', '␍');
      return `${at.map(({ path }) => `=== ${path}\n`).join('')}${text}`;
    })
    .join('');
}

for (const [name, files] of Object.entries(cases)) {
  void t.test(name, (t) => {
    const path = join(import.meta.dirname, 'golden', `${name}.txt`);
    if (update) writeFileSync(path, print(files));
    t.equal(print(files), readFileSync(path, 'utf8'));
    t.end();
  });
}

function document(files: readonly DriveFile[], path: string): unknown {
  const found = files.find((file) => file.path === path);
  return found === undefined ? undefined : JSON.parse(Buffer.from(found.content).toString());
}

void t.test('dated versions agree with the latest in all they have', (t) => {
  const files = openstackFiles(full);
  const latest = document(files, 'openstack/latest/meta_data.json') as Record<string, unknown>;
  t.equal(latest['uuid'], full.uuid);
  t.equal(Buffer.from(latest['random_seed'] as string, 'base64').length, 512);
  const versions = new Set(
    files.flatMap(({ path }) => /^openstack\/(\d{4}-\d\d-\d\d)\//.exec(path)?.[1] ?? []),
  );
  t.equal(versions.size, 10);
  for (const version of versions)
    t.match(latest, document(files, `openstack/${version}/meta_data.json`), version);
  t.end();
});

void t.test('user data is there byte for byte, and only once when it is large', (t) => {
  const given = [
    Buffer.from([0, 0xff, 0xfe, 0x80, 0x0d, 0x0a, 0x0d]),
    Buffer.from('Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x--\r\n'),
    Buffer.from('#ps1_sysnative\r\nGet-Date\r\n'),
    Buffer.from('{"ignition":{"version":"3.4.0"}}'),
    Buffer.alloc(10 << 20, 'large '),
  ];
  for (const userData of given) {
    const data: GuestData = { ...plain, userData };
    const files = openstackFiles(data);
    const copies = files.filter(({ content }) => content === userData);
    t.same(copies.length, userData.length > 1 << 20 ? 1 : 13);
    t.ok(copies.some(({ path }) => path === 'openstack/latest/user_data'));
    t.ok(nocloudFiles(data).some(({ path, content }) => path === 'user-data' && content === userData));
  }
  t.end();
});

void t.test('vendor data of every kind', (t) => {
  const vendor = (vendorData: string, passwordHash?: string): unknown =>
    document(openstackFiles({ ...plain, vendorData, passwordHash }), 'openstack/latest/vendor_data.json');
  t.same(vendor('#!/bin/sh\n'), { 'cloud-init': '#!/bin/sh\n' });
  t.same(vendor('{"a": 1}'), { a: 1 });
  t.match(vendor('{"a": 1, "cloud-init": "x"}', '$6$abcdefghij'), {
    a: 1,
    'cloud-init': ['x', /"password": "\$6/],
  });
  t.match(vendor('[1]'), { 'cloud-init': '[1]' });
  t.end();
});
