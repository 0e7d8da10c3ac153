import { VmError } from '../core/errors.ts';
import { errnoName } from './linux-errno.ts';

/** What lives in /proc and cgroupfs can vanish at any moment: `value` when it has, else what `effect` returns. */
export function absentIs<T>(value: T, effect: () => T): T {
  try {
    return effect();
  } catch (error) {
    // A file that was open when its cgroup or process went answers ENODEV or ESRCH.
    if (VmError.is(error, 'NotFound') || ['ENODEV', 'ESRCH'].includes(errnoName(error) ?? '')) return value;
    throw error;
  }
}
