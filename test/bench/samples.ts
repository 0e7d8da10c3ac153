/** Measured values of one thing, in the order they were taken. */
export class Samples {
  readonly #values: number[] = [];

  add(value: number): void {
    this.#values.push(value);
  }

  get count(): number {
    return this.#values.length;
  }

  get min(): number {
    return Math.min(...this.#values);
  }

  get median(): number {
    return this.quantile(0.5);
  }

  get mean(): number {
    return this.#values.reduce((sum, value) => sum + value, 0) / this.#values.length;
  }

  /** The smallest value that at least the share `q` of all does not exceed (nearest rank). */
  quantile(q: number): number {
    const sorted = [...this.#values].sort((a, b) => a - b);
    return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
  }
}
