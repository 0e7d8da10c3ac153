/** Whom the steps of an import listen to and tell how far they are. */
export interface ImportReport {
  readonly signal: AbortSignal;
  /** A sentence about what begins. */
  readonly step: (what: string) => void;
  readonly progress: (done: number, total: number | undefined) => void;
}
