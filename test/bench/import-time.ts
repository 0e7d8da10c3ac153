import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, rmSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { privateContainerd } from '../support/containerd.ts';
import { tempDir } from '../support/temp-dir.ts';
import { vmctl } from '../support/vm-image.ts';
import { BenchScope } from './bench-scope.ts';
import { Samples } from './samples.ts';

const MIB = 2 ** 20;

/** Milliseconds. */
export interface ImportTime {
  /** `vmctl image import` of a qcow2 disk, until the image can be used. */
  readonly qcow2: Samples;
  /** The same of a raw disk, which is converted on the way. */
  readonly raw: Samples;
  /** `qemu-img convert` of the raw disk to a qcow2 file, flushed. */
  readonly convert: Samples;
}

/**
 * Imports beside `qemu-img convert`, in turns, of a disk half of which is data that nothing can compress. Every import
 * goes into an empty store: a blob that is there already would not be written again.
 */
export async function measureImport(rounds: number, dataBytes = 256 * MIB): Promise<ImportTime> {
  await using scope = new BenchScope();
  const containerd = await privateContainerd(scope);
  const dir = tempDir(scope);
  const [raw, qcow2, out] = ['raw', 'qcow2', 'out'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  makeDisk(raw, dataBytes);
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2]);
  const times: ImportTime = { qcow2: new Samples(), raw: new Samples(), convert: new Samples() };
  const measure = async (samples: Samples, count: boolean, run: () => Promise<unknown>): Promise<void> => {
    const before = performance.now();
    await run();
    if (count) samples.add(performance.now() - before);
  };
  const name = 'example.test/bench:1';
  const bring = (source: string): Promise<unknown> =>
    execa(vmctl, [
      'image',
      'import',
      source,
      '--name',
      name,
      '--address',
      containerd.address,
      '--temp-dir',
      dir,
    ]);
  // The first round only warms the page cache.
  for (let round = 0; round <= rounds; round++) {
    await measure(times.convert, round > 0, () =>
      execa('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-t', 'writeback', raw, out]),
    );
    rmSync(out);
    for (const [samples, source] of [
      [times.qcow2, qcow2],
      [times.raw, raw],
    ] as const) {
      await measure(samples, round > 0, () => bring(source));
      await containerd.ctr('-n', 'k8s.io', 'images', 'rm', '--sync', name);
    }
  }
  return times;
}

/** Throughput of the import of a raw disk and of a qcow2 disk over that of the conversion; 1 is as quick. */
export function importFigures({ qcow2, raw, convert }: ImportTime): Record<string, number> {
  return {
    import_vs_convert: convert.median / raw.median,
    import_qcow2_vs_convert: convert.median / qcow2.median,
    import_raw_ms: raw.median,
    import_qcow2_ms: qcow2.median,
    convert_ms: convert.median,
  };
}

function makeDisk(path: string, dataBytes: number): void {
  const fd = openSync(path, 'w');
  const bytes = Buffer.alloc(MIB);
  for (let at = 0; at < dataBytes; at += MIB) {
    randomFillSync(bytes);
    if (at === 0) bytes.writeUInt16LE(0xaa55, 510);
    writeSync(fd, bytes, 0, MIB, 2 * at);
  }
  closeSync(fd);
  truncateSync(path, 2 * dataBytes);
}

if (import.meta.main) console.log(JSON.stringify(importFigures(await measureImport(3)), null, 2));
