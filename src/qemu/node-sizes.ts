import { isJsonObject } from './qmp-codec.ts';
import type { QmpCallOptions, QmpExecutor } from './qmp-commands.ts';
import { oddReply } from './odd-reply.ts';

/** Bytes of every block node, by its name: `query-named-block-nodes` of QEMU's qapi/block-core.json. */
export async function queryNodeSizes(
  qmp: QmpExecutor,
  options?: QmpCallOptions,
): Promise<ReadonlyMap<string, number>> {
  // Flat: nothing of what is below a node, which is a node of its own.
  const reply = await qmp.execute('query-named-block-nodes', { flat: true }, options);
  if (!Array.isArray(reply)) throw oddReply('query-named-block-nodes', reply);
  return new Map(
    reply.map((node: unknown): [string, number] => {
      if (!isJsonObject(node) || !isJsonObject(node['image']))
        throw oddReply('query-named-block-nodes', reply);
      const { 'node-name': name, image } = node;
      const bytes = image['virtual-size'];
      if (typeof name !== 'string' || typeof bytes !== 'number')
        throw oddReply('query-named-block-nodes', reply);
      return [name, bytes];
    }),
  );
}
