/** Waits for the end of all, whatever it is, then throws what the first in the list that failed threw. */
export async function settleAll(effects: readonly Promise<unknown>[]): Promise<void> {
  const results = await Promise.allSettled(effects);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
