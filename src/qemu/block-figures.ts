import { isJsonObject, type JsonObject } from './qmp-codec.ts';
import type { QmpCallOptions, QmpExecutor } from './qmp-commands.ts';
import { oddReply } from './odd-reply.ts';

/** What a guest has done with one of its disks since QEMU was started; times in nanoseconds. */
export interface BlockFigures {
  /** The device's id in QEMU's plan, such as `disk-root`. */
  readonly name: string;
  readonly reads: number;
  readonly readBytes: number;
  readonly readNs: number;
  readonly writes: number;
  readonly writtenBytes: number;
  readonly writeNs: number;
  readonly flushes: number;
  readonly flushNs: number;
  readonly failed: number;
}

/** `query-blockstats` of QEMU's qapi/block-core.json: every device with a medium, in the order of the plan. */
export async function queryBlockFigures(qmp: QmpExecutor, options?: QmpCallOptions): Promise<BlockFigures[]> {
  const reply = await qmp.execute('query-blockstats', undefined, options);
  if (!Array.isArray(reply)) throw oddReply('query-blockstats', reply);
  return reply.flatMap((entry: unknown) => {
    if (!isJsonObject(entry) || !isJsonObject(entry['stats'])) throw oddReply('query-blockstats', reply);
    // The flash of UEFI has no device of its own in the plan.
    const name = deviceId(entry['qdev']);
    return name === undefined ? [] : [figures(name, entry['stats'])];
  });
}

/** A QOM path such as `/machine/peripheral/disk-root/virtio-backend`, or the id itself. */
function deviceId(qdev: unknown): string | undefined {
  if (typeof qdev !== 'string' || qdev === '') return undefined;
  if (!qdev.startsWith('/')) return qdev;
  return /^\/machine\/peripheral\/([^/]+)/.exec(qdev)?.[1];
}

function figures(name: string, stats: JsonObject): BlockFigures {
  const of = (key: string): number => {
    const value = stats[key];
    return typeof value === 'number' && value > 0 ? value : 0;
  };
  return {
    name,
    reads: of('rd_operations'),
    readBytes: of('rd_bytes'),
    readNs: of('rd_total_time_ns'),
    writes: of('wr_operations'),
    writtenBytes: of('wr_bytes'),
    writeNs: of('wr_total_time_ns'),
    flushes: of('flush_operations'),
    flushNs: of('flush_total_time_ns'),
    failed: ['rd', 'wr', 'flush', 'unmap'].reduce((sum, kind) => sum + of(`failed_${kind}_operations`), 0),
  };
}
