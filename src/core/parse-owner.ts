import type { SpecField } from './spec-field.ts';
import { formatUuid, uuidV5 } from './uuid-v5.ts';
import type { RootPlace, VmOwner } from './vm-spec.ts';

/** What stays the same as long as the pod, or a bare container, lives. */
export interface VmIdentity {
  /** SMBIOS system UUID. */
  readonly uuid: string;
  /** MAC address of the first network card: KVM's prefix and 24 bits of the identity. */
  readonly mac: string;
}

/** Random, made once for this project. */
const NAMESPACE = Uint8Array.from([
  0x8f, 0x0e, 0x5c, 0x1b, 0x27, 0x6d, 0x4a, 0x93, 0xb1, 0x3e, 0x5a, 0xd4, 0x70, 0xc2, 0x96, 0x38,
]);

/**
 * Reads whose VM this is from the annotations that containerd's CRI plugin sets. Without a container-type it is nobody's
 * pod. A pod without a uid (crictl allows it) is known by its sandbox id, which outlives its containers as well.
 */
export function parseOwner(annotations: SpecField): VmOwner {
  const field = (key: string): SpecField => annotations.at(`io.kubernetes.cri.${key}`);
  const text = (key: string): string => field(key).text() ?? '';
  const type = text('container-type');
  if (type === '') return { kind: 'container' };
  if (type !== 'container' && type !== 'sandbox')
    throw field('container-type').invalid('"container" or "sandbox"');
  const sandboxId = text('sandbox-id');
  const container = text('container-name');
  if (sandboxId === '') throw field('sandbox-id').invalid('the id of the pod’s sandbox');
  if (type === 'container' && container === '')
    throw field('container-name').invalid('the container’s name in its pod');
  const uid = text('sandbox-uid');
  return {
    kind: 'pod',
    uid: uid === '' ? sandboxId : uid,
    name: text('sandbox-name'),
    namespace: text('sandbox-namespace'),
    container,
    sandboxId,
  };
}

/**
 * A container that is started again in its pod is the same VM: its id changes, pod uid and name in the pod do not. So is
 * the next pod of a name whose disk is kept by that name: a guest that finds another UUID sets itself up anew.
 */
export function identify(owner: VmOwner, namespace: string, id: string, place: RootPlace): VmIdentity {
  const name = identityName(owner, namespace, id, place);
  const uuid = uuidV5(NAMESPACE, name.join('/'));
  // Behind a locally administered first byte, as the CNI plugin does it; the last 48 bits of a UUID are all the name's.
  const mac = `52${formatUuid(uuid).slice(-10).replace(/../g, ':$&')}`;
  return { uuid: formatUuid(uuid), mac };
}

function identityName(owner: VmOwner, namespace: string, id: string, place: RootPlace): string[] {
  if (owner.kind === 'container') return ['container', namespace, id];
  if (place.kind === 'name') return ['pod name', owner.namespace, owner.name, owner.container];
  return ['pod', owner.uid, owner.container];
}
