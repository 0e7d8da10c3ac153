import type { QmpCallOptions, QmpExecutor } from './qmp-commands.ts';

/** Plugs the cable of a card, named by its device's id, in or out; the guest sees its carrier. QEMU's qapi/net.json. */
export async function setLink(
  qmp: QmpExecutor,
  card: string,
  up: boolean,
  options?: QmpCallOptions,
): Promise<void> {
  await qmp.execute('set_link', { name: card, up }, options);
}
