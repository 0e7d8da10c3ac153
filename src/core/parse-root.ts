import { ANNOTATION_PREFIX, type AnnotationValues } from './annotations.ts';
import { VmError } from './errors.ts';
import type { SpecField } from './spec-field.ts';
import type { RootPlace, VmOwner } from './vm-spec.ts';

/** A volume mounted here holds the root disk. */
export const ROOT_MOUNT = '/vmshim/root';
/** A block volume at one of these paths (`volumeDevices.devicePath`) is the root disk. */
export const ROOT_DEVICES: readonly string[] = ['/', '/dev/root'];

/**
 * Where the VM's root disk is kept, from mounts, devices and annotations of the OCI spec.
 * @throws VmError InvalidArgument for two places at once, a read-only one, and annotations without what they are about.
 */
export function parseRootPlace(said: AnnotationValues, spec: SpecField, owner: VmOwner): RootPlace {
  const volumes = [...volumeRoots(spec.at('mounts')), ...deviceRoots(spec.at('linux'), said)];
  const [volume, another] = volumes;
  if (volume !== undefined && another !== undefined) {
    throw new VmError(
      'InvalidArgument',
      `the pod gives two volumes for its root disk (${describe(volume)} and ${describe(another)}); leave one of them out`,
    );
  }
  const byName = said['root-key'] === 'name';
  if (byName && volume !== undefined) {
    throw new VmError(
      'InvalidArgument',
      `annotation ${ANNOTATION_PREFIX}root-key is "name", but the root disk is kept on ${describe(volume)}; leave the annotation out, or the volume`,
    );
  }
  if (said['root-fill'] !== undefined && volume?.kind !== 'device') {
    throw new VmError(
      'InvalidArgument',
      `annotation ${ANNOTATION_PREFIX}root-fill is set, but there is no block volume for the root disk: give one with devicePath "${ROOT_DEVICES.join('" or "')}", or leave the annotation out`,
    );
  }
  if (volume !== undefined) return volume;
  if (!byName) return { kind: 'own' };
  if (owner.kind === 'pod') return { kind: 'name' };
  throw new VmError(
    'InvalidArgument',
    `annotation ${ANNOTATION_PREFIX}root-key is "name", but this container is in no pod whose name could be meant; leave the annotation out`,
  );
}

function volumeRoots(mounts: SpecField): Extract<RootPlace, { kind: 'volume' }>[] {
  return mounts.items().flatMap((mount) => {
    const destination = (mount.at('destination').text() ?? '').replace(/\/+$/, '');
    if (destination !== ROOT_MOUNT) return [];
    const source = mount.at('source').text() ?? '';
    if (!source.startsWith('/')) throw mount.at('source').invalid('the absolute path of a directory');
    const options = mount
      .at('options')
      .items()
      .map((option) => option.text());
    if (options.includes('ro')) {
      throw new VmError(
        'InvalidArgument',
        `the volume at ${ROOT_MOUNT} is mounted read-only, but the root disk is written to; mount it with readOnly: false`,
      );
    }
    return [{ kind: 'volume', directory: source }];
  });
}

function deviceRoots(linux: SpecField, said: AnnotationValues): Extract<RootPlace, { kind: 'device' }>[] {
  return linux
    .at('devices')
    .items()
    .flatMap((device) => {
      const path = device.at('path').text() ?? '';
      if (!ROOT_DEVICES.includes(path)) return [];
      const type = device.at('type');
      if (type.text() !== 'b') throw type.invalid('"b": the root disk needs a block volume');
      const number = (key: 'major' | 'minor'): number => {
        const value = device.at(key).integer(0);
        if (value === undefined) throw device.at(key).invalid('the number of a block device');
        return value;
      };
      return [
        {
          kind: 'device',
          path,
          major: number('major'),
          minor: number('minor'),
          fill: said['root-fill'] ?? 'once',
        },
      ];
    });
}

function describe(place: Exclude<RootPlace, { kind: 'own' | 'name' }>): string {
  return place.kind === 'volume' ? `the volume at ${ROOT_MOUNT}` : `the block volume at "${place.path}"`;
}
