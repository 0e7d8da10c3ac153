/**
 * What tests must know of the machine they run on. The test-bed's node says it in its environment; without a word the
 * machine is a developer's.
 */

/** TCG unless told better: /dev/kvm of some machines opens and hangs ordinary kernels. */
export const ACCEL = process.env['VMSHIM_TEST_ACCEL'] === 'auto' ? 'auto' : 'tcg';

/** Milliseconds of patience, as many times longer as the machine is slower. It only bounds a hang: nothing waits for time. */
export function patience(milliseconds: number): number {
  return milliseconds * Number(process.env['VMSHIM_TEST_SLOWNESS'] ?? 1);
}
