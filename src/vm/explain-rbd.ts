import { imageName } from '../core/describe-disk.ts';
import { VmError } from '../core/errors.ts';
import { formatMonitor } from '../core/monitor-address.ts';
import type { RbdVolume, Volume } from '../qemu/qemu-input.ts';
import { fileNodeName } from '../qemu/plan-volumes.ts';

/**
 * Says in a sentence why a QEMU with images of Ceph did not start, where they are the reason: it opens them before it takes
 * commands, and what it has to say of that is an errno beside all of a disk's options. Source: QEMU block/rbd.c.
 * @param seconds how long librados looks for a monitor.
 */
export function explainRbd(cause: VmError, volumes: readonly Volume[], seconds: number): VmError {
  const disks = volumes.filter((volume) => volume.backend === 'rbd');
  if (cause.kind === 'DeadlineExceeded') {
    const names = disks.map(describe).join(', ');
    return new VmError(
      'Unavailable',
      `QEMU did not start in time; the first that it does is to open ${names}, so see whether Ceph serves that (ceph health detail)`,
      { cause },
    );
  }
  const disk = disks.find(({ name }) => cause.message.includes(`"node-name":"${fileNodeName(name)}"`));
  // The words behind the options, up to those of the next line.
  const [, words] = /-blockdev \{.*\}: ([^;]*)/.exec(cause.message) ?? [];
  if (disk === undefined || words === undefined) return cause;
  const [kind, why] = reason(words, disk.rbd, seconds);
  return new VmError(kind, `${describe(disk)}: ${why}`, { cause });
}

function describe({ name, rbd }: RbdVolume): string {
  return `disk "${name}" (rbd ${imageName(rbd)})`;
}

function reason(
  words: string,
  rbd: RbdVolume['rbd'],
  seconds: number,
): [kind: VmError['kind'], sentence: string] {
  const client = `client.${rbd.user}`;
  const denied = /: (Permission denied|Operation not permitted)/.test(words);
  const absent = words.includes(': No such file or directory');
  if (/Unknown driver|does not accept value 'rbd'|[Ff]ailed to (open|load)/.test(words))
    return [
      'FailedPrecondition',
      'this node’s QEMU has no driver for it; install the package qemu-block-extra (Debian, Ubuntu) or qemu-block-rbd (Fedora)',
    ];
  if (words.startsWith('error connecting: ')) {
    if (denied)
      return [
        'PermissionDenied',
        `Ceph does not know ${client} by the key in the Secret; compare it with "ceph auth print-key ${client}"`,
      ];
    const monitors = rbd.monitors.map(formatMonitor).join(', ');
    if (words.includes('timed out'))
      return [
        'Unavailable',
        `no monitor answered within ${seconds} seconds (${monitors}); see whether this node reaches them, that they run, and that the key is the user’s`,
      ];
    return ['Unavailable', `the monitors ${monitors} cannot be used (${words.trim()})`];
  }
  if (words.startsWith('error opening pool') && absent)
    return ['NotFound', `the cluster has no pool "${rbd.pool}"; check the disk’s rbd`];
  if (words.startsWith("namespace '"))
    return ['NotFound', `the pool has no namespace "${rbd.namespace ?? ''}"; check the disk’s rbd`];
  if (words.startsWith('error reading header') && absent) {
    const what = rbd.snapshot === undefined ? 'image' : 'image or no such snapshot';
    return ['NotFound', `the pool has no such ${what}; check the disk’s rbd, and see "rbd ls"`];
  }
  if (denied)
    return [
      'PermissionDenied',
      `${client} may not open it; give it the capabilities "mon 'profile rbd'" and "osd 'profile rbd pool=${rbd.pool}'", or make the disk readOnly`,
    ];
  return ['FailedPrecondition', `QEMU cannot open it (${words.trim()})`];
}
