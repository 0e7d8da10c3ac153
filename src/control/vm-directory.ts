import { VmError } from '../core/errors.ts';
import type { VmRecord } from '../vm/record.ts';

/**
 * The one VM a user means by an id, the beginning of an id, or a name.
 * @throws VmError NotFound, or InvalidArgument when several fit.
 */
export function findVm(
  records: readonly VmRecord[],
  wanted: string,
  namespace: string | undefined,
): VmRecord {
  const here = records.filter((record) => namespace === undefined || record.namespace === namespace);
  const exact = here.filter((record) => record.id === wanted);
  const fits =
    exact.length > 0
      ? exact
      : here.filter((record) => record.name === wanted || (wanted !== '' && record.id.startsWith(wanted)));
  const [first] = fits;
  if (first === undefined) {
    throw new VmError('NotFound', `no VM "${wanted}" on this node; "vmctl list" shows the ones there are`);
  }
  if (fits.length > 1) {
    const list = fits.map((record) => `${record.namespace}/${record.id}`).join(', ');
    throw new VmError(
      'InvalidArgument',
      `"${wanted}" fits several VMs (${list}); give the whole id, with --namespace if need be`,
    );
  }
  return first;
}
