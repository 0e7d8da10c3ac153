/** The objects of a JSON list of objects; undefined for any other text. */
export function parseJsonObjects(text: string): readonly Readonly<Record<string, unknown>>[] | undefined {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    return undefined;
  }
  return Array.isArray(list) && (list as unknown[]).every(isObject) ? list : undefined;
}

function isObject(item: unknown): item is Readonly<Record<string, unknown>> {
  return typeof item === 'object' && item !== null && !Array.isArray(item);
}
