import type { WriteStream } from 'node:tty';

const WIDTH = 30;

export interface ProgressBar extends Disposable {
  show(done: number, total: number): void;
  /** Removes the bar: what was wanted is there. */
  done(): void;
}

/** A bar on a terminal; silence in a script. Redrawn when a percent has changed. */
export function progressBar(out: WriteStream): ProgressBar {
  let shown = -1;
  const clear = (): void => {
    if (shown >= 0) out.write('\r\x1b[K');
    shown = -1;
  };
  return {
    show(done, total) {
      const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
      if (!out.isTTY || percent === shown) return;
      shown = percent;
      const filled = Math.round((WIDTH * percent) / 100);
      const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(0);
      out.write(
        `\r[${'#'.repeat(filled)}${'.'.repeat(WIDTH - filled)}] ${percent}% ${mib(done)}/${mib(total)} MiB\x1b[K`,
      );
    },
    done: clear,
    [Symbol.dispose]: clear,
  };
}
