import type { DiskSource, RbdImage } from './disk-spec.ts';

/** For people: what a disk is made of. */
export function describeSource(source: DiskSource): string {
  switch (source.kind) {
    case 'device':
      return `block volume ${oneLine(source.path)}`;
    case 'file':
      return `${source.file} of the volume ${oneLine(source.mount.destination)}`;
    case 'files':
      return `files of the volume ${oneLine(source.mount.destination)}`;
    case 'empty':
      return 'empty disk';
    case 'host':
      return `${oneLine(source.path)} of the node`;
    case 'rbd':
      return `rbd ${imageName(source)}`;
  }
}

/** As Ceph's tools write it. */
export function imageName({
  pool,
  namespace,
  image,
  snapshot,
}: Pick<RbdImage, 'pool' | 'namespace' | 'image' | 'snapshot'>): string {
  const place = namespace === undefined ? pool : `${pool}/${namespace}`;
  return `${place}/${image}${snapshot === undefined ? '' : `@${snapshot}`}`;
}

/** Paths of a pod may have line feeds; what is said of them goes into logs and events. */
function oneLine(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}
