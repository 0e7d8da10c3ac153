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

/** Rows of the table whose first heading is this, without the two that head it. */
function rowsOf(heading: string): string[][] {
  const lines = PAGE.split('\n');
  const start = lines.findIndex((line) => line.startsWith(`| ${heading} |`));
  const rows = lines.slice(start + 2);
  return rows
    .slice(
      0,
      rows.findIndex((line) => !line.startsWith('|')),
    )
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

void t.test(
  'the page has every key of the configuration with type, default and example, and no other',
  (t) => {
    const rows = rowsOf('key');
    const named = rows.map(([key = '']) => /^`(.*)`$/.exec(key)?.[1]);
    t.same(named.toSorted(), CONFIG_KEYS.toSorted());
    for (const [key = '', ...cells] of rows) {
      t.ok(cells.length === 4 && cells.every((cell) => cell !== ''), `${key} says all there is to say`);
    }
    t.end();
  },
);

void t.test('the examples are ones', (t) => {
  const examples = rowsOf('key').flatMap(([, , , , cell = '']) => /^`(.*)`$/.exec(cell)?.[1] ?? []);
  for (const example of examples) {
    const said = JSON.parse(`{${example}}`) as Record<string, unknown>;
    const mode = said['hairpin'] === undefined ? {} : { mode: 'bridge' };
    const least = { cniVersion: '1.0.0', name: 'vms', type: 'vm-tap', bridge: 'br0', ...mode };
    const ipam = { type: 'host-local' };
    t.doesNotThrow(
      () => parseNetworkConfig(parseNetworkIdentity(JSON.stringify({ ...least, ipam, ...said }))),
      example,
    );
  }
  t.ok(examples.length >= CONFIG_KEYS.length - 1);
  t.end();
});

void t.test('the page has every version and error code', (t) => {
  const named = rowsOf('code').flatMap(([code = '']) => code.split(', '));
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
