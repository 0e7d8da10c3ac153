import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { VmError } from '../../../../src/core/errors.ts';
import type { GuestDataSpec } from '../../../../src/core/guest-data-spec.ts';
import { driveImage } from '../../../../src/storage/guest-data/drive-image.ts';
import { mergeGuestData } from '../../../../src/storage/guest-data/merge-guest-data.ts';
import { environmentFile } from '../../../../src/storage/guest-data/environment-file.ts';
import type { GuestData } from '../../../../src/storage/guest-data/guest-data.ts';
import { readVolume, type VolumeFile } from '../../../../src/storage/guest-data/read-volume.ts';
import { parseVolumeData } from '../../../../src/storage/guest-data/volume-data.ts';
import { tempDir } from '../../../support/temp-dir.ts';
import { WatchedHost } from '../support/watched-host.ts';
import { plain } from './sample-data.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPoo9bLxdKlQDBnr2BDaBlNzTFI0ZwWBlTpZD0tqbc5h';
const DESTINATION = '/vmshim/guest-data';

const spec: GuestDataSpec & { readonly kind: 'config-drive' | 'nocloud' } = {
  kind: 'config-drive',
  hostname: 'web-0',
  availabilityZone: 'nova',
  projectId: 'default',
  userData: undefined,
  vendorData: undefined,
  meta: {},
  sshKeys: [],
  env: [],
  network: 'static',
  volumes: [],
};

function file(name: string, content: string | Uint8Array, isPublic = false): VolumeFile {
  return { name, path: `${DESTINATION}/${name}`, content: Buffer.from(content), public: isPublic };
}

function merge(files: readonly VolumeFile[], said: Partial<typeof spec> = {}): GuestData {
  return mergeGuestData({ ...spec, ...said }, parseVolumeData(files), plain);
}

function refused(t: Test, act: () => unknown, pattern: RegExp, secret = 'secret'): void {
  try {
    act();
    t.fail(`not refused: ${String(pattern)}`);
  } catch (error) {
    t.ok(VmError.is(error), String(error));
    t.match((error as Error).message, pattern);
    t.notMatch((error as Error).message, new RegExp(`: .*${secret}-value`));
  }
}

void t.test('a volume as kubelet makes it', (t) => {
  const host = new WatchedHost();
  const source = tempDir(t);
  for (const [version, content] of Object.entries({ '..1': 'old', '..2': 'new' })) {
    mkdirSync(join(source, version));
    writeFileSync(join(source, version, 'user-data'), content);
    writeFileSync(join(source, version, 'ssh-keys'), KEY);
  }
  symlinkSync('..2', join(source, '..data'));
  for (const name of ['user-data', 'ssh-keys']) symlinkSync(`..data/${name}`, join(source, name));
  const read = readVolume(host, { destination: DESTINATION, source });
  t.same(
    read.map(({ name, content }) => [name, content.toString()]),
    [
      ['ssh-keys', KEY],
      ['user-data', 'new'],
    ],
  );
  const [single] = readVolume(host, {
    destination: `${DESTINATION}/user-data`,
    source: join(source, '..1/user-data'),
  });
  t.match(single, { name: 'user-data', content: Buffer.from('old') }, 'a mount of one file');
  t.equal(host.openFds.size, 0);
  t.end();
});

void t.test('nothing outside of a volume is read, and nothing in it blocks', (t) => {
  const host = new WatchedHost();
  const outside = tempDir(t);
  writeFileSync(join(outside, 'user-data'), 'outside');
  const cases: Record<string, (source: string) => void> = {
    'is a symlink': (source) => symlinkSync(join(outside, 'user-data'), join(source, 'user-data')),
    'is a fifo': (source) => execFileSync('mkfifo', [join(source, 'user-data')]),
    'is a directory': (source) => mkdirSync(join(source, 'user-data')),
    'more than 10485760 bytes': (source) => {
      writeFileSync(join(source, 'user-data'), '');
      truncateSync(join(source, 'user-data'), 1 << 30);
    },
  };
  for (const [said, make] of Object.entries(cases)) {
    const source = tempDir(t);
    make(source);
    refused(t, () => readVolume(host, { destination: DESTINATION, source }), new RegExp(said));
  }
  for (const target of [outside, '..', `../${outside.split('/').pop() ?? ''}`]) {
    const source = tempDir(t);
    symlinkSync(target, join(source, '..data'));
    t.same(readVolume(host, { destination: DESTINATION, source }), [], `..data to ${target} is not followed`);
  }
  const source = tempDir(t);
  symlinkSync(outside, join(source, 'linked'));
  refused(
    t,
    () => readVolume(host, { destination: DESTINATION, source: join(source, 'linked') }),
    /is a symlink/,
  );
  refused(
    t,
    () => readVolume(host, { destination: DESTINATION, source: join(source, 'none') }),
    /missing on the node/,
  );
  t.equal(host.openFds.size, 0);
  t.end();
});

void t.test('documents have one place, the rest adds up', (t) => {
  const files = [
    file('userdata', 'u'),
    file('ssh-keys', `${KEY} a\n${KEY} b\n`),
    file('meta', '{"a":"1","b":"1"}\n'),
  ];
  const data = merge(files, { sshKeys: [`${KEY} b`, `${KEY} c`], meta: { b: '2' } });
  t.equal(Buffer.from(data.userData ?? []).toString(), 'u');
  t.same(data.sshKeys, [`${KEY} a`, `${KEY} b`, `${KEY} c`]);
  t.same(data.meta, { a: '1', b: '2' });
  t.equal(merge([], { userData: new Uint8Array() }).userData, undefined, 'empty is none');

  const userData = Buffer.from('x');
  refused(
    t,
    () => merge([file('user-data', 'y')], { userData }),
    /annotation vmshim.io\/user-data and ".*" both give/,
  );
  refused(
    t,
    () => merge([file('user-data', 'y'), file('userdata', 'z')]),
    /"\S+user-data" and "\S+userdata" both give/,
  );
  refused(t, () => merge([file('usr-data', 'y')]), /is no guest data; did you mean "user-data"/);
  refused(t, () => merge([file('vendor-data', Buffer.from([0xff]))]), /is not UTF-8/);
  refused(t, () => merge([file('network-data', '{"links": []}')]), /is no network_data.json/);
  t.ok(merge([file('network-config', 'version: 2')], { kind: 'nocloud' }).networkData);
  t.end();
});

void t.test('secrets stay where they are', (t) => {
  const { passwordHash, adminPassword } = merge([
    file('password-hash', '$6$salt$abcdefgh\n'),
    file('admin-password', 'pass word\n'),
  ]);
  t.same([passwordHash, adminPassword], ['$6$salt$abcdefgh', 'pass word']);
  refused(
    t,
    () => merge([file('password-hash', '$6$salt$abcdefgh', true)]),
    /is a password in a ConfigMap; keep it/,
  );
  for (const key of ['password-hash', 'ssh-keys', 'meta', 'files', 'network-data'])
    refused(t, () => merge([file(key, 'secret-value')]), new RegExp(`${key}" is`), 'secret');
  refused(
    t,
    () => merge([file('files', '{"/../etc/passwd": "secret-value"}')]),
    /files" is not what it must be/,
  );
  t.end();
});

void t.test('the environment is what a shell reads back', (t) => {
  const values = fc.array(
    fc.string({ unit: 'grapheme' }).filter((value) => !value.includes('\0')),
    { maxLength: 10 },
  );
  fc.assert(
    fc.property(values, (given) => {
      const [made] = environmentFile(given.map((value, i) => ({ name: `V${i}`, value })));
      const script = `${Buffer.from(made?.content ?? []).toString()}\nprintf '%s\\0' ${given.map((_, i) => `"$V${i}"`).join(' ')}`;
      const read = given.length === 0 ? '' : execFileSync('sh', ['-c', script], { encoding: 'utf8' });
      return read === given.map((value) => `${value}\0`).join('');
    }),
    { seed: 20261122, numRuns: 30 },
  );
  t.pass();
  t.end();
});

void t.test('any input is a drive or a sentence', (t) => {
  const bytes = fc.uint8Array({ maxLength: 3000 });
  const name = fc.constantFrom(
    'user-data',
    'vendor-data',
    'network-data',
    'ssh-keys',
    'meta',
    'files',
    'unattend.xml',
  );
  const files = fc.uniqueArray(
    fc.tuple(
      name,
      fc.oneof(
        bytes,
        fc.json().map((json) => Buffer.from(json)),
      ),
    ),
    {
      selector: ([key]) => key,
    },
  );
  fc.assert(
    fc.property(files, fc.dictionary(fc.string(), fc.string()), fc.string(), (given, meta, hostname) => {
      try {
        driveImage(
          merge(
            given.map(([key, content]) => file(key, content)),
            { meta, hostname },
          ),
        );
      } catch (error) {
        if (!VmError.is(error, 'InvalidArgument')) throw error;
      }
    }),
    { seed: 20261122, numRuns: 300 },
  );
  const many = Array.from({ length: 10_000 }, (_, i) => `${KEY} ${i}`);
  t.equal(driveImage(merge([file('authorized_keys', many.join('\n'))])).size, 64 << 20);
  t.end();
});
