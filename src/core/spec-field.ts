import { VmError } from './errors.ts';

/**
 * One place in a parsed JSON document of unknown shape, with the name to complain about it. JSON's null counts as
 * absent, as it does in Go. Every reader throws InvalidArgument, never a TypeError.
 */
export class SpecField {
  readonly #value: unknown;
  readonly #name: string;

  constructor(value: unknown, name: string) {
    this.#value = value === null ? undefined : value;
    this.#name = name;
  }

  /** The member of that name; absent where this is absent. */
  at(key: string): SpecField {
    const object = this.object();
    const name = `${this.#name}.${key}`;
    return new SpecField(object !== undefined && Object.hasOwn(object, key) ? object[key] : undefined, name);
  }

  object(): Readonly<Record<string, unknown>> | undefined {
    if (this.#value === undefined) return undefined;
    if (typeof this.#value !== 'object' || Array.isArray(this.#value)) throw this.invalid('an object');
    return this.#value as Record<string, unknown>;
  }

  /** The entries of a list; none where this is absent. */
  items(): SpecField[] {
    if (this.#value === undefined) return [];
    if (!Array.isArray(this.#value)) throw this.invalid('a list');
    return this.#value.map((item: unknown, index) => new SpecField(item, `${this.#name}[${index}]`));
  }

  text(): string | undefined {
    if (this.#value === undefined || typeof this.#value === 'string') return this.#value;
    throw this.invalid('a string');
  }

  /** A whole number in [min, max]. */
  integer(min: number, max = Number.MAX_SAFE_INTEGER): number | undefined {
    const value = this.#value;
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    throw this.invalid(`a whole number from ${min} to ${max}`);
  }

  invalid(wanted: string): VmError {
    if (this.#value === undefined) {
      return new VmError(
        'InvalidArgument',
        `${this.#name} of the container's spec is missing; it must be ${wanted}`,
      );
    }
    return new VmError(
      'InvalidArgument',
      `${this.#name} of the container's spec must be ${wanted}, but is ${show(this.#value)}`,
    );
  }
}

/** A value as a message may carry it: short, and total. */
export function show(value: unknown): string {
  if (typeof value === 'string')
    return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}…` : value);
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
