import { probeForeignDisk } from '../../../src/storage/foreign-disk.ts';
import { type ImageProbe, parseImageFormat } from '../../../src/storage/image-format.ts';
import { HEADER_BYTES, MAX_VIRTUAL_SIZE, parseQcow2Header } from '../../../src/storage/qcow2-header.ts';
import { qcow2Overlay } from '../../../src/storage/qcow2-overlay.ts';
import { MARK_BYTES, parseMarks, renderMark } from '../../../src/storage/root-mark.ts';
import type { Random } from '../../support/chaos/random.ts';
import { EDGES, mutateBytes } from '../mutate.ts';
import { type FuzzTarget, showBytes, Unsound } from '../target.ts';

/** Of the qcow2 header: every field that is 4 bytes wide, and those of 8. Source: QEMU docs/interop/qcow2.txt. */
const FIELDS4 = [0, 4, 16, 20, 32, 36, 56, 60, 96, 100];
const FIELDS8 = [8, 24, 40, 48, 64, 72, 80, 88];

/** Disk images: what says of itself what it is, and lies. */
export function imageTarget(): FuzzTarget {
  const overlay = { virtualSize: 2 ** 28, backingFile: 'base', backingFormat: 'qcow2' } as const;
  const images = [qcow2Overlay(overlay), withoutBacking(qcow2Overlay(overlay)), vmdk(), vhd(), vdi(), mark()];
  return {
    name: 'image',
    about: 'headers of qcow2 and other images, and the marks of block volumes',
    make: (random) => {
      const image = Buffer.from(random.pick(images));
      for (let rounds = random.below(3); rounds > 0; rounds--) setField(random, image);
      const bytes = random.below(3) === 0 ? mutateBytes(random, image, random.pick(images)) : image;
      const fileBytes = random.below(4) === 0 ? random.pick(EDGES) : bytes.length;
      const backing = random.pick(['refused', 'allowed'] as const);
      const probe: ImageProbe = {
        name: '"x"',
        head: bytes.subarray(0, Math.min(HEADER_BYTES, fileBytes)),
        tail: bytes.subarray(-512),
        fileBytes,
      };
      const parser = random.below(4);
      return {
        show: () => `parser ${parser}, backing ${backing}, file of ${fileBytes} bytes, ${showBytes(bytes)}`,
        run: () => {
          if (parser === 0)
            expectSound(parseQcow2Header(probe.head, { name: '"x"', fileBytes, backing }), backing);
          else if (parser === 1) expectSound(parseImageFormat(probe), 'refused');
          else if (parser === 2) probeForeignDisk(probe);
          else parseMarks(Buffer.concat([bytes, Buffer.alloc(MARK_BYTES)]).subarray(0, MARK_BYTES), '"x"');
        },
      };
    },
  };
}

function expectSound(found: object & { virtualSize: number; backing?: unknown }, backing: string): void {
  const { virtualSize } = found;
  if (virtualSize <= 0 || virtualSize > MAX_VIRTUAL_SIZE || virtualSize % 512 !== 0)
    throw new Unsound(`a disk of ${virtualSize} bytes`);
  if (backing === 'refused' && found.backing !== undefined) throw new Unsound('a backing file');
}

function setField(random: Random, image: Buffer): void {
  if (image.length < 128) return;
  if (random.below(2) === 0) image.writeUInt32BE(random.pick(EDGES), random.pick(FIELDS4));
  else
    image.writeBigUInt64BE(BigInt(random.pick(EDGES)) * 2n ** BigInt(random.below(24)), random.pick(FIELDS8));
}

function withoutBacking(image: Buffer): Buffer {
  image.writeBigUInt64BE(0n, 8);
  image.writeUInt32BE(0, 16);
  return image;
}

function vmdk(): Buffer {
  const image = Buffer.alloc(24 * 512);
  image.write('KDMV');
  image.writeBigUInt64LE(2048n, 12);
  image.writeBigUInt64LE(1n, 28);
  image.write(
    '# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType="monolithicSparse"\nRW 2048 SPARSE "x.vmdk"\n',
    512,
  );
  return image;
}

function vhd(): Buffer {
  const image = Buffer.alloc(4096);
  image.write('conectix');
  image.writeUInt32BE(3, 60);
  image.write('cxsparse', 512);
  return image;
}

function vdi(): Buffer {
  const image = Buffer.alloc(1024);
  image.writeUInt32LE(0xbeda107f, 0x40);
  image.writeUInt32LE(0x10001, 0x44);
  image.writeUInt32LE(1, 0x4c);
  return image;
}

function mark(): Buffer {
  const identity = { fingerprint: '9d394fec6a9d77944915146e234d932d', fileBytes: 4096, mtime: 0 };
  const { bytes, at } = renderMark(
    { state: 'filled', virtualSize: 4096, done: 4096, format: 'raw', identity },
    1,
  );
  return Buffer.concat([Buffer.alloc(at), bytes]);
}
