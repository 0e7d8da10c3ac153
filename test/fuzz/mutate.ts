import type { Random } from '../support/chaos/random.ts';

/** Numbers at which programs change their mind. */
export const EDGES: readonly number[] = [
  ...[
    0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 511, 512, 1023, 4095, 4096, 65_535, 65_536,
  ],
  ...[2 ** 20, 2 ** 24, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1],
];

/** A copy of the bytes with one to some changes: bits, edge values, and pieces cut, doubled, moved or taken from another. */
export function mutateBytes(random: Random, bytes: Uint8Array, other: Uint8Array = bytes): Buffer {
  let out = Buffer.from(bytes);
  for (let rounds = 1 + random.below(random.below(4) === 0 ? 16 : 3); rounds > 0; rounds--) {
    out = CHANGES[random.below(CHANGES.length)]!(random, out, other);
  }
  return out;
}

type Change = (random: Random, bytes: Buffer, other: Uint8Array) => Buffer<ArrayBuffer>;

const own = (bytes: Buffer): Buffer<ArrayBuffer> => bytes as Buffer<ArrayBuffer>;
const at = (random: Random, bytes: Uint8Array): number => random.below(bytes.length + 1);

const CHANGES: readonly Change[] = [
  (random, bytes) => {
    if (bytes.length > 0) bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
    return own(bytes);
  },
  (random, bytes) => {
    if (bytes.length > 0) bytes[random.below(bytes.length)] = random.below(256);
    return own(bytes);
  },
  (random, bytes) => {
    const value = random.pick(EDGES);
    const place = random.below(Math.max(1, bytes.length));
    if (place + 4 <= bytes.length) bytes.writeUInt32BE(value, place);
    else if (place + 2 <= bytes.length) bytes.writeUInt16BE(value & 0xffff, place);
    return own(bytes);
  },
  (random, bytes) => {
    const place = random.below(Math.max(1, bytes.length));
    if (place + 8 <= bytes.length)
      bytes.writeBigUInt64LE(random.below(2) === 0 ? 2n ** 64n - 1n : BigInt(random.pick(EDGES)), place);
    return own(bytes);
  },
  (random, bytes) => own(bytes.subarray(0, at(random, bytes))),
  (random, bytes) => {
    const from = at(random, bytes);
    const to = Math.min(bytes.length, from + random.below(32));
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
  },
  (random, bytes) => {
    const from = at(random, bytes);
    const piece = bytes.subarray(from, from + random.below(64));
    const to = at(random, bytes);
    return Buffer.concat([bytes.subarray(0, to), piece, bytes.subarray(to)]);
  },
  (random, bytes, other) => {
    const from = at(random, other);
    const to = at(random, bytes);
    return Buffer.concat([bytes.subarray(0, to), other.subarray(from, from + random.below(128))]);
  },
  (random, bytes) => {
    const noise = Buffer.from(Array.from({ length: random.below(24) }, () => random.below(256)));
    const to = at(random, bytes);
    return Buffer.concat([bytes.subarray(0, to), noise, bytes.subarray(to)]);
  },
];

/** Words that have a meaning in one of our grammars, or in none. */
const WORDS: readonly string[] = [
  ...[
    '',
    ' ',
    '\0',
    '\n',
    '\r\n',
    '\t',
    ',',
    ',,',
    '=',
    ':',
    '::',
    '/',
    '//',
    '..',
    '../..',
    '.',
    '-',
    '--',
    '"',
    "'",
  ],
  ...[
    '{',
    '}',
    '[',
    ']',
    '#',
    ';',
    '%s',
    '%n',
    '$(id)',
    '`id`',
    '\\',
    '\\u0000',
    '\u{feff}',
    '\u2028',
    '\u{1f4a9}',
    '\ud800',
  ],
  ...[
    '__proto__',
    'constructor',
    'prototype',
    'toString',
    'hasOwnProperty',
    'null',
    'undefined',
    'NaN',
    'Infinity',
  ],
  ...['0', '-1', '1e9', '1e309', '0x10', '1.5', '9007199254740993', '18446744073709551615', '-0', '1_000'],
  ...[
    'true',
    'false',
    'on',
    'off',
    '/etc/shadow',
    '/proc/self/fd/3',
    'file:///etc/passwd',
    'json:{}',
    'fd:3',
  ],
  ...[
    '1Gi',
    '10Ei',
    '1m',
    '::1',
    '0.0.0.0',
    '169.254.169.254',
    'ff:ff:ff:ff:ff:ff',
    'tcp::22:22',
    'ssh-ed25519',
  ],
];

/** A text that may be anything: words, a random piece of Unicode, or very long. */
export function anyText(random: Random): string {
  switch (random.below(12)) {
    case 0:
      return random.pick(WORDS).repeat(1 + random.below(300));
    case 1:
      return String.fromCharCode(...Array.from({ length: random.below(12) }, () => random.below(0x10000)));
    case 2:
      return `${random.pick(WORDS)}${random.pick(WORDS)}${random.pick(WORDS)}`;
    default:
      return random.pick(WORDS);
  }
}

/** A text with a small change: a word put in, taken the place of, or a piece cut out. */
export function mutateText(random: Random, text: string): string {
  const from = random.below(text.length + 1);
  const to = Math.min(text.length, from + random.below(8));
  switch (random.below(6)) {
    case 0:
      return anyText(random);
    case 1:
      return text.slice(0, from) + text.slice(to);
    case 2:
      return text.slice(0, from) + anyText(random) + text.slice(to);
    case 3:
      return text + text.slice(from);
    case 4:
      return random.below(2) === 0 ? text.toUpperCase() : text.split('').reverse().join('');
    default:
      return text.slice(0, from) + random.pick(WORDS) + text.slice(from);
  }
}
