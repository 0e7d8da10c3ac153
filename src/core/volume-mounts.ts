import type { VolumeMount } from './disk-spec.ts';
import { MAX_NAME } from './parse-disk-entries.ts';
import { sha256 } from './sha256.ts';
import { show, type SpecField } from './spec-field.ts';

/** Mounts that every container has, and those that have a meaning of their own. */
const NOT_VOLUMES = /^\/(dev|proc|sys|run\/secrets|var\/run\/secrets\/kubernetes\.io|vmshim)(\/|$)/;

/** The container's volumes: bind mounts of the OCI spec without those that every container has. */
export function bindMounts(mounts: SpecField): VolumeMount[] {
  return allBindMounts(mounts).filter(
    ({ destination }) =>
      !NOT_VOLUMES.test(destination) && !/^\/etc\/(hosts|hostname|resolv\.conf)$/.test(destination),
  );
}

/** Every bind mount of the OCI spec. */
export function allBindMounts(mounts: SpecField): VolumeMount[] {
  return mounts.items().flatMap((mount) => {
    const destination = (mount.at('destination').text() ?? '').replace(/\/+$/, '');
    const source = mount.at('source').text() ?? '';
    const options = new Set(
      mount
        .at('options')
        .items()
        .map((option) => option.text()),
    );
    const bind = mount.at('type').text() === 'bind' || options.has('bind') || options.has('rbind');
    if (!bind || !source.startsWith('/') || destination === '') return [];
    return [{ destination, source, readOnly: options.has('ro') }];
  });
}

/** `/dev/data` is `data`, `/var/lib/db` is `var-lib-db`; longer than a serial: its beginning and a hash. */
export function nameOf(path: string): string {
  const plain = path
    .replace(/^\/dev\//, '')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '');
  const reserved = plain === '' || plain === 'root' || plain === 'guest-data';
  const name = reserved ? `volume${plain === '' ? '' : '-'}${plain}` : plain;
  if (name.length <= MAX_NAME) return name;
  return `${name.slice(0, 11).replace(/-+$/, '')}-${sha256(path).slice(0, 8)}`;
}

/** For a message about a volume that is not there: those that are, by their paths. */
export function describeVolumes(paths: readonly string[]): string {
  return paths.length === 0 ? 'the container has none' : `there are ${paths.map(show).join(', ')}`;
}
