import type { WriteStream } from 'node:tty';
import { progressBar } from './progress-bar.ts';

export interface StepReport extends Disposable {
  step(what: string): void;
  progress(done: number, total: number | undefined): void;
}

/** A line per step on stderr, and below it a bar on a terminal while a step lasts. */
export function stepReport(out: WriteStream): StepReport {
  const bar = progressBar(out);
  return {
    step(what) {
      bar.done();
      out.write(`${what}\n`);
    },
    progress(done, total) {
      // A server that does not say how much is to come leaves the bar out.
      if (total !== undefined) bar.show(done, total);
    },
    [Symbol.dispose]: () => bar.done(),
  };
}
