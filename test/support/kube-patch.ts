import type { Json, Pod } from './kube-server.ts';

/** RFC 7396. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result: Json = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) Reflect.deleteProperty(result, key);
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** What a strategic merge does to a pod's status: conditions are joined by their type, fields that are left out stay. */
export function mergeConditions(pod: Pod, patch: Json): Pod {
  const { conditions = [] } = (patch['status'] ?? {}) as { conditions?: Json[] };
  const merged = [...pod.status.conditions];
  for (const condition of conditions) {
    const index = merged.findIndex((known) => known['type'] === condition['type']);
    if (index === -1) merged.push(condition);
    else merged[index] = { ...merged[index], ...condition };
  }
  return { ...pod, metadata: { ...pod.metadata }, status: { ...pod.status, conditions: merged } };
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
