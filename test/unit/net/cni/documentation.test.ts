import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { CNI_CODE } from '../../../../src/net/cni/cni-error.ts';
import { CNI_VERSIONS } from '../../../../src/net/cni/cni-version.ts';
import {
  CONFIG_KEYS,
  parseNetworkConfig,
  parseNetworkIdentity,
} from '../../../../src/net/cni/network-config.ts';

const PAGE = readFileSync(join(import.meta.dirname, '../../../../docs/cni.md'), 'utf8');

void t.test('the page has every key, version and error code', (t) => {
  const cells = [...PAGE.matchAll(/^\| ([^|]*) \|/gm)].map(([, cell = '']) => cell);
  const named = cells.flatMap((cell) => cell.split(', '));
  for (const key of CONFIG_KEYS) t.ok(named.includes(`\`${key}\``), key);
  // A container we do not know is something only others report.
  const codes = Object.values(CNI_CODE).filter((code) => code !== CNI_CODE.unknownContainer);
  for (const code of codes) t.ok(named.includes(String(code)), String(code));
  for (const version of CNI_VERSIONS) t.match(PAGE, version);
  t.end();
});

void t.test('the example is a configuration', (t) => {
  const example = [...PAGE.matchAll(/```json\n(.*?)```/gs)][0]?.[1] ?? '';
  const { plugins, ...list } = JSON.parse(example) as { plugins: object[] };
  const config = parseNetworkConfig(parseNetworkIdentity(JSON.stringify({ ...list, ...plugins[0] })));
  t.match(config, { name: 'vms', attachment: { kind: 'bridge', bridge: 'br0' }, ipam: 'host-local' });
  t.end();
});
