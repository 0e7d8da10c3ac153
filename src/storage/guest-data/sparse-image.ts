/** A disk image of which only some parts are written; the rest reads as zeros. */
export interface SparseImage {
  /** Bytes. */
  readonly size: number;
  readonly parts: readonly ImagePart[];
}

export interface ImagePart {
  /** Bytes from the start of the image. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}
