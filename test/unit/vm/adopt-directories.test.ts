import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { SharedDirectory } from '../../../src/core/shared-directory.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { hasDirectories, otherDirectory } from '../../../src/vm/adopt-directories.ts';
import type { SharedRecord } from '../../../src/vm/record.ts';
import { recordingLogger } from '../../support/recording-logger.ts';
import { tempDir } from '../../support/temp-dir.ts';

const host = new LinuxHost();

void t.test('whether the directories of a guest that runs are those that are asked for', (t) => {
  const node = tempDir(t);
  const wanted = ['/data', '/web'].map((destination): SharedDirectory => {
    const source = join(node, destination);
    mkdirSync(source);
    const mount = { destination, source, readOnly: false };
    return { tag: destination.slice(1), mount, access: 'rw', cache: 'auto' };
  });
  const shared = wanted.map(({ mount }): SharedRecord => {
    const source = host.inspect(mount.source)?.identity ?? '';
    return { server: { pid: 1, startTime: 0 }, source, logStart: 0 };
  });
  t.equal(otherDirectory(host, shared, wanted), undefined);
  t.equal(otherDirectory(host, [], []), undefined);
  renameSync(join(node, 'web'), join(node, 'moved'));
  t.match(otherDirectory(host, shared, wanted), /volume at "\/web" is another directory/, 'it is gone');
  mkdirSync(join(node, 'web'));
  t.match(otherDirectory(host, shared, wanted), /volume at "\/web" is another directory/);
  const log = recordingLogger();
  const record = { id: 'vm', shared } as never;
  t.equal(hasDirectories({ host, log }, record, wanted), false);
  t.match(log.lines.join('\n'), /volume at "\/web" .* so it has to boot anew/);
  t.equal(hasDirectories({ host, log }, { id: 'vm' } as never, wanted), false, 'an older record');
  t.equal(hasDirectories({ host, log }, { id: 'vm' } as never, []), true);
  t.end();
});
