import { ANNOTATION_PREFIX } from '../../core/annotations.ts';
import { VmError } from '../../core/errors.ts';
import { at, itemsAt, textAt } from './json.ts';

export const REQUEST_ANNOTATION: string = `${ANNOTATION_PREFIX}power-request`;
export const STATUS_ANNOTATION: string = `${ANNOTATION_PREFIX}power-status`;
/** The condition of a pod that says whether its VM is switched on. */
export const POWERED_ON: string = `${ANNOTATION_PREFIX}PoweredOn`;

/** What the agent needs to know of a pod. The rest of the object is not kept: nodes have hundreds of them. */
export interface PodView {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly resourceVersion: string;
  /** The annotations as they are, whoever wrote them. */
  readonly request: string | undefined;
  readonly status: string | undefined;
  readonly poweredOn: Condition | undefined;
  readonly deleting: boolean;
  /** How often kubelet has restarted its containers. */
  readonly restarts: number;
  /** What kubelet on the node calls a static pod, whose object here has a UID of its own. */
  readonly staticUid: string | undefined;
}

/** A condition as far as we decide it. Source: core/v1 PodCondition. */
export interface Condition {
  readonly status: 'True' | 'False' | 'Unknown';
  /** CamelCase. */
  readonly reason: string;
  readonly message: string;
}

/** @throws VmError InvalidArgument for what is no pod of an API server. */
export function parsePod(object: unknown): PodView {
  const metadata = at(object, 'metadata');
  const [uid, name, resourceVersion] = ['uid', 'name', 'resourceVersion'].map((key) => textAt(metadata, key));
  if (uid === undefined || name === undefined || resourceVersion === undefined)
    throw new VmError('InvalidArgument', 'the API server sent a pod without uid, name or resourceVersion');
  const condition = itemsAt(object, 'status', 'conditions').find((item) => at(item, 'type') === POWERED_ON);
  return {
    uid,
    namespace: textAt(metadata, 'namespace') ?? 'default',
    name,
    resourceVersion,
    request: textAt(metadata, 'annotations', REQUEST_ANNOTATION),
    status: textAt(metadata, 'annotations', STATUS_ANNOTATION),
    poweredOn: condition === undefined ? undefined : parseCondition(condition),
    deleting: at(metadata, 'deletionTimestamp') !== undefined,
    restarts: itemsAt(object, 'status', 'containerStatuses')
      .map((container) => at(container, 'restartCount'))
      .reduce<number>((sum, count) => sum + (typeof count === 'number' ? count : 0), 0),
    staticUid: parseStaticUid(object),
  };
}

/** Of a pod or of its metadata alone. Source: kubelet's annotation of mirror pods. */
export function parseStaticUid(object: unknown): string | undefined {
  return textAt(object, 'metadata', 'annotations', 'kubernetes.io/config.mirror');
}

function parseCondition(condition: unknown): Condition {
  const status = textAt(condition, 'status');
  return {
    status: status === 'True' || status === 'False' ? status : 'Unknown',
    reason: textAt(condition, 'reason') ?? '',
    message: textAt(condition, 'message') ?? '',
  };
}
