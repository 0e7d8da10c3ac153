import { VmError } from '../core/errors.ts';
import { isJsonObject } from './qmp-codec.ts';
import type { QmpCallOptions, QmpExecutor } from './qmp-commands.ts';

/** Bytes of every block node, by its name: `query-named-block-nodes` of QEMU's qapi/block-core.json. */
export async function queryNodeSizes(
  qmp: QmpExecutor,
  options?: QmpCallOptions,
): Promise<ReadonlyMap<string, number>> {
  // Flat: nothing of what is below a node, which is a node of its own.
  const reply = await qmp.execute('query-named-block-nodes', { flat: true }, options);
  if (!Array.isArray(reply)) throw oddReply(reply);
  return new Map(
    reply.map((node: unknown): [string, number] => {
      if (!isJsonObject(node) || !isJsonObject(node['image'])) throw oddReply(reply);
      const { 'node-name': name, image } = node;
      const bytes = image['virtual-size'];
      if (typeof name !== 'string' || typeof bytes !== 'number') throw oddReply(reply);
      return [name, bytes];
    }),
  );
}

function oddReply(reply: unknown): VmError {
  const text = JSON.stringify(reply).slice(0, 200);
  return new VmError('Internal', `QEMU answered QMP command "query-named-block-nodes" with ${text}`);
}
