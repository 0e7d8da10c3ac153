/** Where a task's output goes. It follows the spool from the moment it was opened. */
export interface OutputSink extends AsyncDisposable {
  /**
   * Call once the spool is closed: hands over what is pending, then closes every descriptor, so that the reader sees
   * the end. Never rejects; `signal` cuts it short.
   */
  finish(options?: { readonly signal?: AbortSignal | undefined }): Promise<void>;
}
