/** What the documentation names has to exist. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { AGENT_KEYS, ANNOTATIONS } from '../../src/core/annotations.ts';

const root = join(import.meta.dirname, '../..');
const pages = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  ...globSync('docs/*.md', { cwd: root }),
].map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
/** Labels and the like under our prefix, which are no annotations of a VM. */
const OTHERS = ['runtime'];

void t.test('every annotation that a page names is one', (t) => {
  const known = new Set([...Object.keys(ANNOTATIONS), ...AGENT_KEYS, ...OTHERS]);
  for (const { path, text } of pages) {
    const named = [...text.matchAll(/\bvmshim\.io\/([a-z][a-z0-9-]*)/g)].map(([, key = '']) => key);
    t.same(
      named.filter((key) => !known.has(key)),
      [],
      path,
    );
  }
  t.end();
});

void t.test('every link of a page leads to a page and a heading', (t) => {
  const anchors = (text: string): string[] =>
    [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    );
  for (const { path, text } of pages) {
    const dead = [...text.matchAll(/\]\((?!https?:)([^)#]*)(#[^)]*)?\)/g)]
      .map(([, file = '', anchor = '']) => ({ file: file === '' ? path : join(dirname(path), file), anchor }))
      .filter(({ file, anchor }) => {
        if (!existsSync(join(root, file))) return true;
        return anchor !== '' && !anchors(readFileSync(join(root, file), 'utf8')).includes(anchor.slice(1));
      })
      .map(({ file, anchor }) => file + anchor);
    t.same(dead, [], path);
  }
  t.end();
});
