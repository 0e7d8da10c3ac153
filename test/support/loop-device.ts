import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { tempDir, type Teardown } from './temp-dir.ts';

/** A block device over a sparse file; gone when the test is. */
export class LoopDevice {
  /** Such as `/dev/loop3`. */
  readonly node: string;
  readonly file: string;

  /** @param flags of losetup(8), such as `--sector-size`. */
  constructor(t: Teardown, bytes: number, flags: readonly string[] = []) {
    this.file = join(tempDir(t), 'volume');
    writeFileSync(this.file, '');
    truncateSync(this.file, bytes);
    this.node = execFileSync('losetup', ['--find', '--show', ...flags, this.file], {
      encoding: 'utf8',
    }).trim();
    t.teardown(() => execFileSync('losetup', ['--detach', this.node]));
  }

  get number(): { readonly major: number; readonly minor: number } {
    const text = readFileSync(`/sys/class/block/${basename(this.node)}/dev`, 'utf8');
    const [major = NaN, minor = NaN] = text.trim().split(':').map(Number);
    return { major, minor };
  }

  /** As a volume is enlarged while it is attached. */
  grow(bytes: number): void {
    truncateSync(this.file, bytes);
    execFileSync('losetup', ['--set-capacity', this.node]);
  }
}
