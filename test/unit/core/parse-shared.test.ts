import t from 'tap';
import { parseDiskEntries } from '../../../src/core/parse-disk-entries.ts';
import { parseDisks } from '../../../src/core/parse-disks.ts';
import { parseShared, parseSharedEntries } from '../../../src/core/parse-shared.ts';
import type { SharedDirectory } from '../../../src/core/shared-directory.ts';
import { SpecField } from '../../../src/core/spec-field.ts';

const mount = (destination: string, options = ['rbind', 'rw']): object => ({
  destination,
  source: `/host${destination}`,
  options,
  type: 'bind',
});
const spec = new SpecField(
  { mounts: [mount('/data'), mount('/var/lib/web', ['rbind', 'ro']), mount('/plain')] },
  'config.json',
);

function shared(
  list: unknown,
  disks: unknown = [],
  machine: 'q35' | 'microvm' = 'q35',
): readonly SharedDirectory[] {
  const entries = parseSharedEntries(JSON.stringify(list));
  if (entries === undefined) throw new Error('no list');
  return parseShared(entries, parseDiskEntries(JSON.stringify(disks)) ?? [], spec, machine);
}

void t.test('volumes become directories, read-only where either side says so', (t) => {
  t.same(
    shared([
      { volume: '/data/' },
      { volume: '/var/lib/web', cache: 'never' },
      { volume: '/plain', tag: 'Plain.files', readOnly: true, cache: 'always' },
    ]).map(({ tag, mount, access, cache }) => [tag, mount.source, access, cache]),
    [
      ['data', '/host/data', 'rw', 'auto'],
      ['var-lib-web', '/host/var/lib/web', 'ro', 'never'],
      ['Plain.files', '/host/plain', 'ro', 'always'],
    ],
  );
  t.end();
});

void t.test('a shared volume is no disk', (t) => {
  const names = (directories: readonly SharedDirectory[]): string[] =>
    parseDisks([], spec, 'q35', directories).map(({ name }) => name);
  t.same(names([]), ['data', 'var-lib-web', 'plain']);
  t.same(names(shared([{ volume: '/data' }])), ['var-lib-web', 'plain']);
  t.end();
});

void t.test('what is wrong is named', (t) => {
  const all = Array.from({ length: 9 }, () => ({ volume: '/data' }));
  for (const [list, message, disks, machine] of [
    [[{}], /entry 1: volume is a undefined; give the mountPath/],
    [[{ volume: '/data' }, { volume: 'data' }], /entry 2: volume is "data"/],
    [[{ volume: '/data', tags: 'x' }], /unknown key "tags"; did you mean "tag"/],
    [[{ volume: '/data', tag: 'a b' }], /tag is "a b"; give at most 36/],
    [[{ volume: '/data', tag: 'x'.repeat(37) }], /give at most 36/],
    [[{ volume: '/data', readOnly: 'yes' }], /readOnly is "yes"; give true or false/],
    [[{ volume: '/data', cache: 'none' }], /cache is "none"; give auto or always or never/],
    [[{ volume: '/nowhere' }], /there is no volume at "\/nowhere" to share; there are "\/data", /],
    [[{ volume: '/var/lib/web', readOnly: false }], /mounted read-only, but shared with readOnly false/],
    [[{ volume: '/data' }, { volume: '/data', tag: 'b' }], /the volume at "\/data" is shared twice/],
    [[{ volume: '/data' }, { volume: '/plain', tag: 'data' }], /two shared directories have the tag "data"/],
    [all, /the pod shares 9 directories; a VM takes at most 8/],
    [[{ volume: '/data' }], /is the disk "d" and a shared directory/, [{ name: 'd', volume: '/data' }]],
    [[{ volume: '/data' }], /machine "microvm" has no place/, [], 'microvm'],
  ] as const)
    t.throws(() => shared(list, disks, machine), { kind: 'InvalidArgument', message });
  t.end();
});
