import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Containerd } from './containerd.ts';
import { ExpectText } from './expect-text.ts';

/** What containerd tells its clients, as `ctr events` prints it: one line per event. */
export class PublishedEvents implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #text: ExpectText;

  /** Resolves when containerd sends events to it. */
  static async subscribe(containerd: Containerd): Promise<PublishedEvents> {
    const events = new PublishedEvents(containerd.address);
    // ctr does not say when it has subscribed, so something is made to happen until it is seen.
    for (let n = 0; events.#text.text === ''; n++)
      await containerd.ctr('namespaces', 'label', 'default', `probe=${n}`);
    return events;
  }

  private constructor(address: string) {
    const child = spawn('/usr/bin/ctr', ['--address', address, 'events'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#process = child;
    this.#text = new ExpectText(child.stdout);
  }

  /** Resolves when an event of a topic (`/tasks/exit`) with these words in it has come, now or earlier. */
  async until(topic: string, ...words: string[]): Promise<void> {
    await this.#text.until(new RegExp(`${topic} .*${words.join('.*')}`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await ended;
  }
}
