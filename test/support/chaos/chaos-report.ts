/** What a run of test/chaos/sequence.test.ts comes to; `--json FILE` writes it. */
export interface ChaosReport {
  readonly seed: number;
  readonly seconds: number;
  /** Everything that was done, faults included. */
  readonly actions: number;
  /** What was broken on purpose. */
  readonly faults: number;
  /** Bytes that booting guests have found on their disks as they had flushed them. */
  readonly bytes_verified: number;
  readonly violations: number;
  /** What was there 10 s after the last pod was removed. */
  readonly leftovers: number;
  readonly boots: number;
  /** Guests that a shim took over from a dead one. */
  readonly adoptions: number;
  readonly exit_events: number;
  /** Power requests through a pod's annotation that were done or have failed. */
  readonly power_requests: number;
  /** CRI calls that failed and were made again, as kubelet does. */
  readonly retries: number;
  readonly by_action: Readonly<Record<string, number>>;
  /** One sentence for each violation and leftover. */
  readonly findings: readonly string[];
}
