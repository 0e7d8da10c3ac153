import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { VmError } from '../../../src/core/errors.ts';
import { HEADER_BYTES, parseQcow2Header, type Qcow2Header } from '../../../src/storage/qcow2-header.ts';
import { HOSTILE_QCOW2, makeQcow2 } from '../../support/hostile-images.ts';
import { tempDir } from '../../support/temp-dir.ts';

function parse(image: Buffer, backing: 'refused' | 'allowed' = 'refused'): Qcow2Header {
  return parseQcow2Header(image.subarray(0, HEADER_BYTES), {
    name: '"x.qcow2"',
    fileBytes: image.length,
    backing,
  });
}

void t.test('every kind of whole image that qemu-img writes is accepted', (t) => {
  const dir = tempDir(t);
  const cases = [
    [],
    ['-o', 'compat=0.10'],
    ['-o', 'cluster_size=512'],
    ['-o', 'cluster_size=2M'],
    ['-o', 'extended_l2=on,cluster_size=128k'],
    ['-o', 'compression_type=zstd'],
    ['-o', 'lazy_refcounts=on,refcount_bits=1'],
    ['-o', 'refcount_bits=64'],
    ['-o', 'preallocation=metadata'],
  ];
  for (const [i, options] of cases.entries()) {
    const path = join(dir, `${i}.qcow2`);
    makeQcow2(path, options);
    const { virtualSize, backing } = parse(readFileSync(path));
    t.equal(virtualSize, 64 * 2 ** 20, options.join(' '));
    t.equal(backing, undefined);
  }
  t.end();
});

void t.test('an image with snapshots inside is accepted', (t) => {
  const path = join(tempDir(t), 'x.qcow2');
  makeQcow2(path);
  execFileSync('qemu-img', ['snapshot', '-c', 'one', path]);
  t.equal(parse(readFileSync(path)).version, 3);
  t.end();
});

void t.test('a dirty image is accepted: it is only read', (t) => {
  const path = join(tempDir(t), 'x.qcow2');
  makeQcow2(path);
  const image = readFileSync(path);
  image.writeBigUInt64BE(1n, 72);
  t.equal(parse(image).version, 3);
  t.end();
});

void t.test('a virtual size between sectors is rounded down, as QEMU does', (t) => {
  const path = join(tempDir(t), 'x.qcow2');
  makeQcow2(path);
  const image = readFileSync(path);
  image.writeBigUInt64BE(1025n, 24);
  t.equal(parse(image).virtualSize, 1024);
  t.end();
});

void t.test('an overlay of ours tells its backing file', (t) => {
  const path = join(tempDir(t), 'x.qcow2');
  makeQcow2(path, ['-u', '-F', 'raw', '-b', 'some-name']);
  t.same(parse(readFileSync(path), 'allowed').backing, { file: 'some-name', format: 'raw' });
  t.end();
});

void t.test('hostile images', (t) => {
  const dir = tempDir(t);
  for (const [i, { what, make, says }] of HOSTILE_QCOW2.entries()) {
    const path = join(dir, `${i}.qcow2`);
    make(path);
    t.throws(() => parse(readFileSync(path)), { kind: 'InvalidArgument', message: says }, what);
    t.throws(
      () => parse(readFileSync(path)),
      { message: /^disk image "x\.qcow2" is refused: [^\n]+; [^\n]+$/ },
      what,
    );
  }
  t.end();
});

/** True when accepted; anything thrown but a refusal fails the property. */
function accepted(image: Buffer): boolean {
  try {
    const header = parse(image);
    return header.backing === undefined;
  } catch (error) {
    if (VmError.is(error, 'InvalidArgument')) return false;
    throw error;
  }
}

/** What decides whether QEMU would open another file or ask for a secret. */
function reachesOut(image: Buffer): boolean {
  const backing = image.readBigUInt64BE(8) !== 0n || image.readUInt32BE(16) !== 0;
  const dataFile = image.readUInt32BE(4) === 3 && (image.readBigUInt64BE(72) & 4n) !== 0n;
  return backing || dataFile || image.readUInt32BE(32) !== 0;
}

void t.test('property: changed bytes never get past the checks', (t) => {
  const path = join(tempDir(t), 'x.qcow2');
  makeQcow2(path);
  const sound = readFileSync(path);
  const change = fc.record({ at: fc.nat(0x1f0), value: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
      const image = Buffer.from(sound);
      for (const { at, value } of changes) image[at] = value;
      return !(accepted(image) && reachesOut(image));
    }),
    { numRuns: 3000 },
  );
  t.equal(accepted(sound), true);
  t.end();
});

void t.test('property: garbage after the magic is refused or harmless, and nothing else is thrown', (t) => {
  const garbage = fc.tuple(fc.constantFrom(2, 3), fc.uint8Array({ minLength: 0, maxLength: 600 }));
  fc.assert(
    fc.property(garbage, ([version, bytes]) => {
      const image = Buffer.concat([Buffer.from('QFI\xfb\0\0\0', 'latin1'), Buffer.from([version]), bytes]);
      return !(accepted(image) && reachesOut(image));
    }),
    { numRuns: 3000 },
  );
  t.end();
});
