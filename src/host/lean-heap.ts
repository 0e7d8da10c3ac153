import { setFlagsFromString } from 'node:v8';

/**
 * Keeps V8 from optimising: a shim answers a few calls in its life, and optimised code would cost it memory for nothing.
 * Said after loading, because a flag on the command line would throw away Node's embedded code cache (5 to 8 ms).
 */
export function leanHeap(): void {
  setFlagsFromString('--no-opt');
  setFlagsFromString('--no-maglev');
  setFlagsFromString('--no-sparkplug');
}
