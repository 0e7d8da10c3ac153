import { VmError } from './errors.ts';
import { formatBytes } from './quantity.ts';
import type { SpecField } from './spec-field.ts';

/** What a container may use of one kind of huge page. Both in bytes. */
export interface Hugepages {
  readonly pageBytes: number;
  readonly limitBytes: number;
}

const UNITS: Readonly<Record<string, number>> = { KB: 2 ** 10, MB: 2 ** 20, GB: 2 ** 30 };
/** As with memory, some write "no limit" as the largest number there is. */
const UNLIMITED_BYTES = 2 ** 50;

/**
 * Reads OCI's `linux.resources.hugepageLimits` (`[{"pageSize": "2MB", "limit": 1073741824}]`). Kubelet lists every kind
 * the node has, with 0 for those the pod did not ask for. Undefined where none is asked for; InvalidArgument for two.
 */
export function parseHugepages(limits: SpecField): Hugepages | undefined {
  const asked = limits.items().flatMap((entry) => {
    const limitBytes = entry.at('limit').integer(0, 2 ** 64) ?? 0;
    if (limitBytes === 0 || limitBytes >= UNLIMITED_BYTES) return [];
    return [{ pageBytes: parsePageSize(entry.at('pageSize')), limitBytes }];
  });
  const [first, second] = asked;
  if (first === undefined || second === undefined) return first;
  throw new VmError(
    'InvalidArgument',
    `the container asks for huge pages of ${formatBytes(first.pageBytes)} and of ${formatBytes(second.pageBytes)}; guest RAM is made of one kind: remove one of the hugepages limits`,
  );
}

/** Guest RAM on huge pages must consist of whole ones and keep to the limit. @throws VmError InvalidArgument. */
export function checkHugepages({ pageBytes, limitBytes }: Hugepages, memoryBytes: number): void {
  const page = formatBytes(pageBytes);
  if (memoryBytes % pageBytes !== 0) {
    throw new VmError(
      'InvalidArgument',
      `guest memory ${formatBytes(memoryBytes)} is no multiple of ${page}, the size of the huge pages; change vmshim.io/memory or the hugepages limit`,
    );
  }
  if (memoryBytes > limitBytes) {
    throw new VmError(
      'InvalidArgument',
      `guest memory ${formatBytes(memoryBytes)} is more than the hugepages-${page} limit ${formatBytes(limitBytes)}; raise the limit or lower vmshim.io/memory`,
    );
  }
}

function parsePageSize(field: SpecField): number {
  const [, count, unit = ''] = /^(\d{1,6})(KB|MB|GB)$/.exec(field.text() ?? '') ?? [];
  const bytes = Number(count) * (UNITS[unit] ?? 0);
  if (bytes > 0) return bytes;
  throw field.invalid('the size of a huge page such as "2MB" or "1GB"');
}
