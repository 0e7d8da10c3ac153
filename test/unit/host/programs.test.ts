import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { codeCache, HASH_DIGITS, Programs, WRAPPER } from '../../../src/host/programs.ts';
import { tempDir } from '../../support/temp-dir.ts';

const hash = (digits: string): string => digits.padEnd(HASH_DIGITS, '0');
const bundle = (digits: string, source: string): string => `//${hash(digits)}\n${WRAPPER.join(source)}`;

void t.test('a bundle gets Node’s modules, its neighbours and its directory', (t) => {
  const dir = tempDir(t);
  writeFileSync(join(dir, 'a.js'), bundle('a', 'exports.b = require("./b.js"); exports.dir = __dirname;'));
  writeFileSync(join(dir, 'b.js'), bundle('b', 'module.exports = require("node:path").join("x", "y");'));
  const programs = new Programs();
  t.same(programs.load(join(dir, 'a.js')), { b: 'x/y', dir });
  t.equal(programs.load(join(dir, 'a.js')), programs.load(join(dir, 'a.js')), 'loaded once');
  t.same([...programs.scripts.keys()], [join(dir, 'a.js'), join(dir, 'b.js')]);
  t.throws(() => programs.load(join(dir, 'absent.js')), { code: 'ENOENT' });
  t.end();
});

void t.test('a code cache is taken for the very source it was made of', (t) => {
  const path = join(tempDir(t), 'p.js');
  const run = (): { said: unknown; rejected: boolean | undefined } => {
    const programs = new Programs();
    const said = programs.load(path);
    return { said, rejected: programs.scripts.get(path)?.cachedDataRejected };
  };
  writeFileSync(path, bundle('1', 'module.exports = (() => "one")();'));
  t.same(run(), { said: 'one', rejected: undefined }, 'none is there');
  const programs = new Programs();
  programs.load(path);
  const cache = codeCache(path, programs.scripts.get(path)!);
  writeFileSync(`${path}.cache`, cache);
  t.same(run(), { said: 'one', rejected: false });

  // V8 itself would take it: the length is all it looks at.
  writeFileSync(path, bundle('2', 'module.exports = (() => "two")();'));
  t.same(run(), { said: 'two', rejected: undefined }, 'another source of the same length');

  // New sources each time: V8 remembers what this process has compiled.
  const damaged = [
    ['of another V8', Buffer.from('of another V8')],
    ['empty', Buffer.alloc(0)],
    ['cut', cache.subarray(HASH_DIGITS, -8)],
  ] as const;
  for (const [what, data] of damaged) {
    writeFileSync(path, bundle('3', `module.exports = (() => "${what}")();`));
    writeFileSync(`${path}.cache`, Buffer.concat([Buffer.from(hash('3')), data]));
    t.same(run(), { said: what, rejected: true }, what);
  }
  writeFileSync(`${path}.cache`, '3');
  t.same(run().rejected, undefined, 'cut in its hash');
  t.end();
});
