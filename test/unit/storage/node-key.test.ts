import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { deriveToken, readNodeKey } from '../../../src/storage/node-key.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { WatchedHost } from './support/watched-host.ts';

void t.test('one key per node, even when many ask at once', async (t) => {
  const host = new WatchedHost();
  const dataDir = join(tempDir(t), 'vmshim');
  const keys = await Promise.all(Array.from({ length: 20 }, () => readNodeKey(host, dataDir)));
  t.equal(new Set(keys).size, 1);
  t.match(keys[0], /^[0-9a-f]{64}$/);
  t.equal(await readNodeKey(host, dataDir), keys[0]);
  t.same(readdirSync(dataDir), ['node.key']);
  t.equal(statSync(join(dataDir, 'node.key')).mode & 0o777, 0o600);
  t.equal(host.openFds.size, 0);
});

void t.test('a damaged key is not replaced', async (t) => {
  const dataDir = tempDir(t);
  writeFileSync(join(dataDir, 'node.key'), 'short');
  await t.rejects(readNodeKey(new WatchedHost(), dataDir), {
    kind: 'Internal',
    message: /restore it from a backup/,
  });
  t.equal(readFileSync(join(dataDir, 'node.key'), 'utf8'), 'short');
});

void t.test('tokens differ by key and by every part of their purpose', (t) => {
  const tokens = [
    deriveToken('k', ['a', 'b']),
    deriveToken('k2', ['a', 'b']),
    deriveToken('k', ['a', 'c']),
    deriveToken('k', ['ab']),
    deriveToken('k', ['a","b']),
  ];
  t.equal(new Set(tokens).size, tokens.length);
  t.equal(deriveToken('k', ['a', 'b']), tokens[0]);
  t.end();
});
