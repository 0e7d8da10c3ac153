/** A JSON text as a file, which is YAML as well: cloud-init reads one with the other's parser. */
export function jsonDocument(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
}
