import type { DiskSource } from './disk-spec.ts';

/** For people: what a disk is made of. */
export function describeSource(source: DiskSource): string {
  switch (source.kind) {
    case 'device':
      return `block volume ${source.path}`;
    case 'file':
      return `${source.file} of the volume ${source.mount.destination}`;
    case 'files':
      return `files of the volume ${source.mount.destination}`;
    case 'empty':
      return 'empty disk';
    case 'host':
      return `${source.path} of the node`;
    case 'rbd':
      return `rbd ${source.pool}/${source.image}`;
  }
}
