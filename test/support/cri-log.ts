import { existsSync, readFileSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { patience } from './machine-traits.ts';

/** Longer than any guest of the tests takes for anything. */
const PATIENCE_MS = patience(600_000);

/**
 * A container's log file as the CRI plugin writes it: `TIME STREAM TAG CONTENT`, tag `F` for a line that ends here and `P`
 * for one that goes on. Source: kubelet's cri-log format (Kubernetes design proposal kubelet-cri-logging).
 */
export class ContainerLog {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** What the container has said so far; empty without a file. */
  get text(): string {
    if (!existsSync(this.path)) return '';
    return readFileSync(this.path, 'latin1')
      .split('\n')
      .flatMap((line) => {
        const entry = /^\S+ (?:stdout|stderr) ([FP]) (.*)$/s.exec(line);
        return entry === null ? [] : [`${entry[2] ?? ''}${entry[1] === 'F' ? '\n' : ''}`];
      })
      .join('');
  }

  /** Resolves with the match of a pattern in the log; rejects with the log when nothing comes of it. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    const news = watch(dirname(this.path), (_, name) => {
      if (name === basename(this.path)) wake.resolve(undefined);
    });
    let wake = Promise.withResolvers<undefined>();
    const deadline = setTimeout(
      () =>
        wake.reject(new Error(`no ${String(pattern)} in the container's log:\n${this.text.slice(-3000)}`)),
      PATIENCE_MS,
    );
    try {
      for (;;) {
        const match = pattern.exec(this.text);
        if (match !== null) return match;
        await wake.promise;
        wake = Promise.withResolvers();
      }
    } finally {
      clearTimeout(deadline);
      news.close();
    }
  }
}
