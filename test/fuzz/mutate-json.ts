import type { Random } from '../support/chaos/random.ts';
import { anyText, EDGES, mutateText } from './mutate.ts';

/** What JSON.parse gives. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** A copy of a document with one to some changes anywhere in it: kinds, values, keys, more, less, deeper. */
export function mutateJson(random: Random, document: Json): Json {
  let out = document;
  for (let rounds = 1 + random.below(3); rounds > 0; rounds--) {
    const inside = typeof out === 'object' && out !== null && random.below(50) > 0;
    out = inside ? changeInside(random, out as Json[]) : change(random, out);
  }
  return out;
}

function change(random: Random, value: Json): Json {
  // Most often further down, so that the top stays what lets a parser go on.
  if (typeof value === 'object' && value !== null && random.below(8) > 0) return changeInside(random, value);
  if (random.below(3) === 0) return anyJson(random, 3);
  if (typeof value === 'string') return mutateText(random, value);
  if (typeof value === 'number')
    return random.pick([-value, value + 1, value - 1, value * 1e9, value / 3, ...EDGES, -1, 1e308, 2 ** 53]);
  if (typeof value === 'boolean') return !value;
  if (value === null) return anyJson(random, 1);
  return Array.isArray(value) ? [...value, ...value] : [value];
}

function changeInside(random: Random, value: Json[] | { [key: string]: Json }): Json {
  const keys = Object.keys(value);
  const key = keys.length === 0 ? '' : random.pick(keys);
  // Never an assignment: `__proto__` is a key like any other in JSON.
  const entries = Object.entries(value).flatMap(([name, member]): [string, Json][] => {
    if (name !== key) return [[name, member]];
    switch (random.below(12)) {
      case 0:
        return [];
      case 1:
        return [
          [name, member],
          [anyText(random), member],
        ];
      case 2:
        return [[mutateText(random, name), member]];
      default:
        return [[name, change(random, member)]];
    }
  });
  if (random.below(12) === 0) entries.push([anyText(random), anyJson(random, 2)]);
  return Array.isArray(value) ? entries.map(([, member]) => member) : Object.fromEntries(entries);
}

/** Any value at all, at most `depth` deep, and now and then a thousand times as deep as anybody would write. */
export function anyJson(random: Random, depth: number): Json {
  switch (random.below(depth > 0 ? 9 : 5)) {
    case 0:
      return null;
    case 1:
      return random.below(2) === 0;
    case 2:
      return random.pick([...EDGES, -1, 1.5, 1e308, -0]);
    case 3:
    case 4:
      return anyText(random);
    case 5:
      return Array.from({ length: random.below(4) }, () => anyJson(random, depth - 1));
    case 6:
      return random.below(200) === 0 ? nested(5000) : {};
    case 7:
      return random.below(200) === 0 ? Array.from({ length: 5000 }, () => 'x') : [];
    default:
      return Object.fromEntries(
        Array.from({ length: random.below(4) }, () => [anyText(random), anyJson(random, depth - 1)]),
      );
  }
}

function nested(levels: number): Json {
  let value: Json = 'deep';
  for (let i = 0; i < levels; i++) value = i % 2 === 0 ? [value] : { a: value };
  return value;
}

/** JSON's text of a document that may be too deep for JSON.stringify. */
export function textOf(document: Json): string {
  try {
    return JSON.stringify(document);
  } catch {
    return `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
  }
}
