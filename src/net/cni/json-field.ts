import type { VmError } from '../../core/errors.ts';
import { show } from '../../core/spec-field.ts';

/**
 * One place in a JSON document of unknown shape, with the name to complain about it. JSON's null counts as absent, as it
 * does in Go. Every reader throws what `fail` makes of a sentence, never a TypeError.
 */
export class JsonField {
  readonly value: unknown;
  readonly #document: string;
  readonly #path: string;
  readonly #fail: (sentence: string) => VmError;

  /** @param document what messages call the whole, such as `the network configuration`. */
  constructor(value: unknown, document: string, fail: (sentence: string) => VmError, path = '') {
    this.value = value === null ? undefined : value;
    this.#document = document;
    this.#path = path;
    this.#fail = fail;
  }

  /** The member of that name; absent where this is absent. */
  at(key: string): JsonField {
    const object = this.object();
    const value = object !== undefined && Object.hasOwn(object, key) ? object[key] : undefined;
    return this.#inner(value, this.#path === '' ? key : `${this.#path}.${key}`);
  }

  /**
   * The member of a capability's argument: the conventions begin its name with a small letter, containerd with a capital one,
   * and plugins in Go read either.
   */
  atEither(key: string): JsonField {
    const said = this.at(key);
    return said.value === undefined ? this.at(`${key.charAt(0).toUpperCase()}${key.slice(1)}`) : said;
  }

  object(): Readonly<Record<string, unknown>> | undefined {
    if (this.value === undefined) return undefined;
    if (typeof this.value !== 'object' || Array.isArray(this.value)) throw this.invalid('an object');
    return this.value as Record<string, unknown>;
  }

  /** The entries of a list; none where it is absent. */
  list(): JsonField[] {
    if (this.value === undefined) return [];
    if (!Array.isArray(this.value)) throw this.invalid('a list');
    return this.value.map((entry: unknown, i) => this.#inner(entry, `${this.#path}[${i}]`));
  }

  text(): string | undefined {
    if (this.value === undefined || typeof this.value === 'string') return this.value;
    throw this.invalid('a string');
  }

  /** What `parse` makes of a text; it gives undefined for a wrong one. The empty text counts as absent, as in Go. */
  parsedText<T>(wanted: string, parse: (text: string) => T | undefined): T | undefined {
    if (this.value === undefined || this.value === '') return undefined;
    const parsed = typeof this.value === 'string' ? parse(this.value) : undefined;
    if (parsed === undefined) throw this.invalid(wanted);
    return parsed;
  }

  requiredText<T>(wanted: string, parse: (text: string) => T | undefined): T {
    return this.required(wanted, (value) => (typeof value === 'string' ? parse(value) : undefined));
  }

  required<T>(wanted: string, parse: (value: unknown) => T | undefined): T {
    const parsed = parse(this.value);
    if (parsed === undefined) throw this.invalid(wanted);
    return parsed;
  }

  flag(): boolean | undefined {
    if (this.value === undefined || typeof this.value === 'boolean') return this.value;
    throw this.invalid('true or false');
  }

  /** A whole number in [min, max]. */
  integer(min: number, max: number): number | undefined {
    const { value } = this;
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
    throw this.invalid(`a whole number from ${min} to ${max}`);
  }

  invalid(wanted: string): VmError {
    const place = this.#path === '' ? this.#document : `${this.#path} of ${this.#document}`;
    const found = this.value === undefined ? 'is missing' : `is ${show(this.value)}`;
    return this.#fail(`${place} must be ${wanted}, but ${found}`);
  }

  #inner(value: unknown, path: string): JsonField {
    return new JsonField(value, this.#document, this.#fail, path);
  }
}
