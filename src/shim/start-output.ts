import type { StartInput } from './start-input.ts';

/**
 * How the answer of `start` must look for the containerd that asked. MAX_SHIM_VERSION says 2 in every release from
 * 1.7 to 2.3, so the form is chosen from what else tells them apart: 1.6 sets no MAX_SHIM_VERSION and dials whatever
 * text it gets; all later ones read JSON. Version 3 is understood by 2.0 and later only, which cannot be told from
 * 1.7 by environment: it is used when configured, and never guessed.
 */
export function startAnswer(
  socketPath: string,
  input: StartInput,
  maxShimVersion: string | undefined,
  configured: 2 | 3,
): string {
  const address = `unix://${socketPath}`;
  if (input.kind !== 'bootstrap' && (maxShimVersion === undefined || maxShimVersion === '')) return address;
  return JSON.stringify({ version: configured, address, protocol: 'ttrpc' });
}
