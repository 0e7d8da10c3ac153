import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import type { KeepBase } from '../../../src/core/parse-choices.ts';
import { VmError } from '../../../src/core/errors.ts';
import { readBaseIdentity } from '../../../src/storage/base-identity.ts';
import type { DiskImage } from '../../../src/storage/disk-image.ts';
import { findImageDisk, type ImageDisk } from '../../../src/storage/image-disk.ts';
import { keepBase, keptBaseName, openKeptBase, parseKeptBaseName } from '../../../src/storage/kept-base.ts';
import { makeQcow2, makeRaw } from '../../support/hostile-images.ts';
import { tempDir, type Teardown } from '../../support/temp-dir.ts';
import { tempRootfs } from './support/temp-rootfs.ts';
import { WatchedHost } from './support/watched-host.ts';

/** An image in two layers, the upper of which has nothing to do with the disk. */
class Bench {
  readonly host: WatchedHost = new WatchedHost();
  readonly rootfs: string;
  readonly upper: string;
  readonly bases: string;
  readonly disk: string;
  /** Whether the file system shares blocks; none of the tests does, unless they say so. */
  clones = false;

  constructor(t: Teardown) {
    this.rootfs = tempRootfs(t);
    this.upper = tempDir(t);
    this.bases = join(tempDir(t), 'bases');
    this.disk = join(this.rootfs, 'disk', 'base.img');
    makeQcow2(this.disk);
    const clone = this.host.cloneFile.bind(this.host);
    this.host.cloneFile = (...call) => this.clones && clone(...call);
  }

  async keep(
    mode: KeepBase = 'free',
    layers = [this.upper, this.rootfs],
    signal?: AbortSignal,
  ): Promise<{ readonly kept: DiskImage | undefined; readonly image: ImageDisk }> {
    const image = findImageDisk(this.host, this.rootfs, 'required');
    try {
      const kept = await keepBase(this.host, { directory: this.bases, mode, layers }, image, signal);
      kept?.fd[Symbol.dispose]();
      return { kept, image };
    } finally {
      image.fd[Symbol.dispose]();
    }
  }

  get names(): string[] {
    return readdirSync(this.bases);
  }
}

void t.test('a base is the image’s own file under another name', async (t) => {
  const bench = new Bench(t);
  const { kept, image } = await bench.keep();
  t.match(kept, { format: 'qcow2', virtualSize: image.virtualSize, fileBytes: image.fileBytes });
  const [name = ''] = bench.names;
  t.equal(statSync(join(bench.bases, name)).ino, statSync(bench.disk).ino, 'nothing is copied');
  const again = await bench.keep();
  t.ok(again.kept);
  t.equal(bench.names.length, 1);
  const before = readFileSync(bench.disk);
  rmSync(bench.disk);
  const base = parseKeptBaseName(name);
  if (base === undefined) throw new Error(name);
  t.equal(keptBaseName(base), name);
  using found = openKeptBase(bench.host, bench.bases, base)?.fd;
  t.ok(found && bench.host.readBytes(found.fd, 0, before.length).equals(before), 'it outlives the image');
  found?.[Symbol.dispose]();
  t.equal(bench.host.openFds.size, 0);
});

void t.test('what is free is done, a copy only when it is asked for', async (t) => {
  const bench = new Bench(t);
  t.equal((await bench.keep('free', [])).kept, undefined);
  t.same(bench.names, []);
  t.equal((await bench.keep('off')).kept, undefined);
  t.ok((await bench.keep('copy', [])).kept);
  const [name = ''] = bench.names;
  t.ok(readFileSync(join(bench.bases, name)).equals(readFileSync(bench.disk)));
  t.equal(bench.host.openFds.size, 0);
});

void t.test('a sparse image stays sparse and whole as a copy', async (t) => {
  const bench = new Bench(t);
  rmSync(bench.disk);
  makeRaw(bench.disk, 40 * 2 ** 20 + 512);
  t.ok((await bench.keep('copy', [])).kept);
  const copy = join(bench.bases, bench.names[0] ?? '');
  t.ok(readFileSync(copy).equals(readFileSync(bench.disk)));
  t.ok(statSync(copy).blocks * 512 < 8 * 2 ** 20, 'holes are holes');
});

void t.test('a layer cannot pass off another file', async (t) => {
  const bench = new Bench(t);
  const secret = join(tempDir(t), 'secret');
  writeFileSync(secret, 'of the host');
  const layer = tempDir(t);
  const place = join(layer, 'disk', 'base.img');
  for (const make of [
    () => symlinkSync(secret, place),
    () => {
      rmSync(dirname(place), { recursive: true });
      symlinkSync(dirname(bench.disk), dirname(place));
    },
    () => {
      rmSync(dirname(place));
      mkdirSync(dirname(place));
      makeQcow2(place, ['-o', 'cluster_size=4096']);
    },
    () => {
      rmSync(place);
      mkdirSync(place);
    },
  ]) {
    mkdirSync(dirname(place), { recursive: true });
    make();
    t.equal((await bench.keep('free', [layer])).kept, undefined);
    t.same(bench.names, []);
  }
  t.equal(bench.host.openFds.size, 0);
});

void t.test('two VMs keep the same base at once', async (t) => {
  const bench = new Bench(t);
  const link = bench.host.link.bind(bench.host);
  bench.host.link = (from, to) => {
    // The other one is done just before us.
    if (!to.endsWith('.new')) linkSync(bench.disk, to);
    link(from, to);
  };
  t.ok((await bench.keep()).kept);
  t.equal(bench.names.length, 1);
});

void t.test('a base that was cut off is replaced by a whole one', async (t) => {
  const bench = new Bench(t);
  await bench.keep('copy', []);
  const path = join(bench.bases, bench.names[0] ?? '');
  writeFileSync(path, readFileSync(path).subarray(0, 70_000));
  t.ok((await bench.keep()).kept);
  t.equal(statSync(path).size, statSync(bench.disk).size);
});

void t.test('a canceled or failed copy leaves nothing', async (t) => {
  const bench = new Bench(t);
  await t.rejects(bench.keep('copy', [], AbortSignal.abort()), { kind: 'Canceled', message: /canceled/ });
  t.same(bench.names, []);
  bench.host.writeBytes = () => {
    throw new VmError('ResourceExhausted', 'disk full');
  };
  await t.rejects(bench.keep('copy', []), { kind: 'ResourceExhausted', message: 'disk full' });
  t.same(bench.names, []);
  t.equal(bench.host.openFds.size, 0);
});

void t.test('names', (t) => {
  const host = new WatchedHost();
  const rootfs = tempRootfs(t);
  makeRaw(join(rootfs, 'disk', 'x'), 2 ** 20);
  const image = findImageDisk(host, rootfs, 'required');
  const base = { identity: { ...readBaseIdentity(host, image), mtime: -5 }, format: 'raw' } as const;
  t.same(parseKeptBaseName(keptBaseName(base)), base);
  image.fd[Symbol.dispose]();
  for (const name of ['', 'x.raw', `${keptBaseName(base)}.12.new`, '../x'])
    t.equal(parseKeptBaseName(name), undefined);
  t.end();
});
