/**
 * UUID version 5 (RFC 9562, 5.5): a name in a namespace, always the same one. `namespace` is 16 bytes.
 * The hash is written out here because `src/core` imports nothing, `node:crypto` included.
 */
export function uuidV5(namespace: Uint8Array, name: string): Uint8Array {
  const text = new TextEncoder().encode(name);
  const input = new Uint8Array(namespace.length + text.length);
  input.set(namespace);
  input.set(text, namespace.length);
  const uuid = sha1(input).slice(0, 16);
  const bytes = new DataView(uuid.buffer);
  bytes.setUint8(6, (bytes.getUint8(6) & 0x0f) | 0x50);
  bytes.setUint8(8, (bytes.getUint8(8) & 0x3f) | 0x80);
  return uuid;
}

export function formatUuid(uuid: Uint8Array): string {
  const hex = [...uuid].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** SHA-1 (FIPS 180-4, 6.1). Names things; secures nothing. */
export function sha1(message: Uint8Array): Uint8Array {
  const padded = new Uint8Array((((message.length + 8) >> 6) + 1) << 6);
  padded.set(message);
  padded[message.length] = 0x80;
  const input = new DataView(padded.buffer);
  input.setBigUint64(padded.length - 8, BigInt(message.length) * 8n);
  let state: State = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
  for (let block = 0; block < padded.length; block += 64) state = compress(state, input, block);
  const out = new Uint8Array(20);
  const output = new DataView(out.buffer);
  state.forEach((word, i) => output.setUint32(i * 4, word));
  return out;
}

type State = readonly [number, number, number, number, number];

function compress(state: State, input: DataView, block: number): State {
  const words = new Uint32Array(80);
  const word = (i: number): number => words[i] ?? 0;
  for (let i = 0; i < 16; i++) words[i] = input.getUint32(block + i * 4);
  for (let i = 16; i < 80; i++) words[i] = rotate(word(i - 3) ^ word(i - 8) ^ word(i - 14) ^ word(i - 16), 1);
  let [a, b, c, d, e] = state;
  for (let i = 0; i < 80; i++) {
    const next = (rotate(a, 5) + mix(i, b, c, d) + e + word(i)) | 0;
    [a, b, c, d, e] = [next, a, rotate(b, 30), c, d];
  }
  const add = (x: number, y: number): number => (x + y) >>> 0;
  return [add(state[0], a), add(state[1], b), add(state[2], c), add(state[3], d), add(state[4], e)];
}

/** The round's function plus its constant. */
function mix(round: number, b: number, c: number, d: number): number {
  if (round < 20) return ((b & c) | (~b & d)) + 0x5a827999;
  if (round < 40) return (b ^ c ^ d) + 0x6ed9eba1;
  if (round < 60) return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
  return (b ^ c ^ d) + 0xca62c1d6;
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
