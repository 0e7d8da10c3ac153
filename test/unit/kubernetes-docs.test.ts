import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'smol-toml';
import t from 'tap';
import { containerdConfig, vmRuntimeTable } from '../support/containerd-config.ts';

const page = readFileSync(join(import.meta.dirname, '../../docs/kubernetes.md'), 'utf8');
const snippets = [...page.matchAll(/```toml\n([^]*?)```/g)].map(([, text = '']) => parse(text));
const versions = [
  { major: 1, minor: 6 },
  { major: 1, minor: 7 },
  { major: 2, minor: 1 },
];

void t.test('docs/kubernetes.md shows the configuration that the tests run containerd with', (t) => {
  for (const version of versions) {
    const name = `containerd ${version.major}.${version.minor}`;
    const expected = parse(`version = ${version.major === 1 ? 2 : 3}\n${vmRuntimeTable(version)}`);
    t.ok(
      snippets.some((snippet) => JSON.stringify(snippet) === JSON.stringify(expected)),
      name,
    );
    const cri = {
      ...{ pauseImage: 'p', cniPlugins: '/bin', vmNetworks: '/vm', otherNetworks: '/net' },
      ...{ handlers: [], sandboxer: 'podsandbox' as const },
    };
    const whole = parse(containerdConfig(version, { directory: '/d', address: '/d/c.sock', cri }));
    t.match(whole, expected, `${name}, the whole of it`);
  }
  t.equal(snippets.length, 3, 'beside these only the line of the sandbox API is told to be a configuration');
  t.end();
});
