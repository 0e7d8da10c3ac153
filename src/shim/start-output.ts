import type { StartInput } from './start-input.ts';

/** What `start` knows about the containerd that runs it. */
export interface Caller {
  readonly input: StartInput;
  /** Our working directory. */
  readonly bundle: string;
  /** The variable MAX_SHIM_VERSION. */
  readonly maxShimVersion: string | undefined;
}

/** Where the sandbox controller of containerd 2.0 and later keeps its bundles; 1.7 keeps them where the tasks' are. */
const SANDBOX_BUNDLES = '/io.containerd.sandbox.controller.v1.shim/';

/**
 * How the answer of `start` must look for the containerd that asked. MAX_SHIM_VERSION says 2 in every release from
 * 1.7 to 2.3, so the form is chosen from what else tells them apart: 1.6 sets no MAX_SHIM_VERSION and dials whatever
 * text it gets; all later ones read JSON. Version 3 spares a pod's containers their own `start` and `delete`, and is
 * understood by 2.0 and later only: by whoever sends BootstrapParams (2.3) or makes a sandbox through the sandbox API as
 * 2.x does. Others cannot be told from 1.7.
 */
export function startAnswer(socketPath: string, caller: Caller, configured: 2 | 3 | undefined): string {
  const { input, maxShimVersion } = caller;
  const address = `unix://${socketPath}`;
  if (input.kind !== 'bootstrap' && (maxShimVersion === undefined || maxShimVersion === '')) return address;
  return JSON.stringify({ version: configured ?? knownVersion(caller), address, protocol: 'ttrpc' });
}

function knownVersion({ input, bundle }: Caller): 2 | 3 {
  return input.kind === 'bootstrap' || bundle.includes(SANDBOX_BUNDLES) ? 3 : 2;
}
