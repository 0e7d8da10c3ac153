import type { ClientReadableStream } from '@grpc/grpc-js';
import type { CriClient } from './cri-client.ts';
import type { ContainerEvent } from './cri/messages.ts';

/** Longer than the guest takes for anything. */
const PATIENCE_MS = 600_000;

/** What CRI has told of containers since this was made, as kubelet with `EventedPLEG` hears it. */
export class CriEvents implements Disposable {
  readonly #stream: ClientReadableStream<ContainerEvent>;
  readonly #seen: ContainerEvent[] = [];
  #news = Promise.withResolvers<undefined>();

  constructor(cri: CriClient) {
    this.#stream = cri.containerEvents();
    this.#stream.on('data', (event: ContainerEvent) => {
      this.#seen.push(event);
      this.#wake();
    });
    // A stream that ends makes what is waited for fail, also when it is we who cancel it.
    this.#stream.on('error', (error) => this.#news.reject(error));
    this.#news.promise.catch(() => undefined);
  }

  /** Resolves with the event of a container once it has come; rejects when it does not. */
  async until(containerId: string, type: ContainerEvent['containerEventType']): Promise<ContainerEvent> {
    const late = setTimeout(() => this[Symbol.dispose](), PATIENCE_MS);
    try {
      for (;;) {
        const found = this.#seen.find(
          (event) => event.containerId === containerId && event.containerEventType === type,
        );
        if (found !== undefined) return found;
        await this.#news.promise;
      }
    } finally {
      clearTimeout(late);
    }
  }

  [Symbol.dispose](): void {
    this.#stream.cancel();
  }

  #wake(): void {
    this.#news.resolve(undefined);
    this.#news = Promise.withResolvers();
    this.#news.promise.catch(() => undefined);
  }
}
