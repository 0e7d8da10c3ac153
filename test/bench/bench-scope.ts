import type { Teardown } from '../support/temp-dir.ts';

/** Lets the helpers of the tests, which undo themselves when a test ends, work for a measurement. */
export class BenchScope extends AsyncDisposableStack implements Teardown {
  teardown(undo: () => unknown): void {
    this.defer(async () => {
      await undo();
    });
  }
}
