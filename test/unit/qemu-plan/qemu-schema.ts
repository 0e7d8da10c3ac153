import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { QemuSchema, SchemaEntity } from '../../../scripts/dump-qmp-schema.ts';

const fixture = join(import.meta.dirname, '../../fixtures/qmp-schema-7.2.json.gz');

/** What QEMU 7.2 says about its QMP commands and its options; made by scripts/dump-qmp-schema.ts. */
export function loadQemuSchema(): QemuSchema {
  return JSON.parse(gunzipSync(readFileSync(fixture)).toString()) as QemuSchema;
}

/** Checks values against the types of `query-qmp-schema`. Every finding is one line; none means valid. */
export class SchemaChecker {
  readonly #entities: ReadonlyMap<string, SchemaEntity>;

  constructor(schema: QemuSchema) {
    this.#entities = new Map(schema.schema.map((entity) => [entity.name, entity]));
  }

  /** The arguments of a QMP command. */
  checkCommand(command: string, args: unknown): string[] {
    const type = this.#entity(command)['arg-type'];
    if (type === undefined) throw new TypeError(`${command} is no command`);
    return this.#check(type, args, command);
  }

  #entity(name: string): SchemaEntity {
    const entity = this.#entities.get(name);
    if (entity === undefined) throw new TypeError(`the schema has no ${name}`);
    return entity;
  }

  #check(type: string, value: unknown, path: string): string[] {
    const entity = this.#entity(type);
    switch (entity['meta-type']) {
      case 'builtin':
        return checkBuiltin(entity['json-type'] ?? '', value, path);
      case 'enum':
        return entity.values?.includes(value as string) === true ? [] : [`${path}: no such value`];
      case 'array':
        if (!Array.isArray(value)) return [`${path}: not an array`];
        return value.flatMap((item, index) =>
          this.#check(entity['element-type'] ?? '', item, `${path}[${index}]`),
        );
      case 'alternate': {
        const findings = (entity.members ?? []).map((member) => this.#check(member.type, value, path));
        return findings.some((found) => found.length === 0) ? [] : findings.flat();
      }
      case 'object':
        return this.#checkObject(entity, value, path);
      default:
        throw new TypeError(`${type} has the unknown meta-type ${entity['meta-type']}`);
    }
  }

  #checkObject(entity: SchemaEntity, value: unknown, path: string): string[] {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return [`${path}: not an object`];
    const fields = value as Readonly<Record<string, unknown>>;
    const members = [...(entity.members ?? []), ...this.#variantMembers(entity, fields)];
    const known = new Set(members.map(({ name }) => name));
    const unknown = Object.keys(fields).filter((name) => !known.has(name));
    return [
      ...unknown.map((name) => `${path}.${name}: no such member`),
      ...members.flatMap((member) => {
        const name = member.name ?? '';
        if (name in fields) return this.#check(member.type, fields[name], `${path}.${name}`);
        // A member is optional exactly if the schema gives it a default, which for now is always null.
        return 'default' in member ? [] : [`${path}.${name}: missing`];
      }),
    ];
  }

  #variantMembers(entity: SchemaEntity, fields: Readonly<Record<string, unknown>>) {
    if (entity.tag === undefined) return [];
    const variant = entity.variants?.find((candidate) => candidate.case === fields[entity.tag ?? '']);
    return variant === undefined ? [] : (this.#entity(variant.type).members ?? []);
  }
}

function checkBuiltin(jsonType: string, value: unknown, path: string): string[] {
  const actual = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
  const fits =
    jsonType === 'value' || actual === jsonType || (jsonType === 'int' && Number.isSafeInteger(value));
  return fits ? [] : [`${path}: ${actual} instead of ${jsonType}`];
}
