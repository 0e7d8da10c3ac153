import { randomUUID } from 'node:crypto';
import { containerd } from '#wire-services';
import { VmError } from '../core/errors.ts';
import type { CallOptions, ContainerdClient } from './containerd-client.ts';
import { CONTENT } from './containerd-methods.ts';

const { WriteAction } = containerd.services.content.v1;
/** Per message, as containerd's own client does; it takes up to 16 MiB. */
const PIECE = 2 ** 20;

export interface StoredBlob {
  /** `sha256:HEX`, as containerd computed it. */
  readonly digest: string;
  /** Bytes. */
  readonly size: number;
}

/**
 * Streams a blob into containerd's content store. It is there when this resolves, and nothing of it otherwise. A blob
 * that was there already gets the labels as well.
 * @param labels set with the blob, so that garbage collection never sees it without its references.
 */
export async function writeBlob(
  client: ContainerdClient,
  source: AsyncIterable<Buffer> | Iterable<Buffer>,
  labels: (size: number) => Readonly<Record<string, string>>,
  options: CallOptions,
): Promise<StoredBlob> {
  const ref = `vmctl-${randomUUID()}`;
  try {
    using call = client.duplex(CONTENT.write, options);
    let size = 0;
    for await (const bytes of source) {
      for (let at = 0; at < bytes.length; at += PIECE) {
        const data = bytes.subarray(at, at + PIECE);
        await call.send({ action: WriteAction.WRITE, ref, offset: size, data });
        size += data.length;
      }
    }
    await call.send({
      action: WriteAction.COMMIT,
      ref,
      offset: size,
      total: size,
      labels: { ...labels(size) },
    });
    const last = await call.end();
    if (last === undefined || last.digest === '')
      throw new VmError('Internal', 'containerd committed a blob without telling its digest');
    return { digest: last.digest, size };
  } catch (error) {
    const existing = alreadyThere(error);
    if (existing !== undefined) return await relabel(client, existing, labels, options);
    await abandon(client, ref, options);
    throw error;
  }
}

/** A blob that containerd has, from an offset on. `length` 0 is everything. */
export async function* readBlob(
  client: ContainerdClient,
  digest: string,
  { offset, length }: { readonly offset: number; readonly length: number },
  options: CallOptions,
): AsyncGenerator<Buffer, void, void> {
  const request = { digest, offset, size: length };
  for await (const { data } of client.stream(CONTENT.read, request, options)) {
    if (data.length > 0) yield Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  }
}

/** A small blob as a whole. @throws VmError InvalidArgument above `limit` bytes. */
export async function readSmallBlob(
  client: ContainerdClient,
  digest: string,
  limit: number,
  options: CallOptions,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of readBlob(client, digest, { offset: 0, length: 0 }, options)) {
    size += part.length;
    if (size > limit) throw new VmError('InvalidArgument', `blob ${digest} is larger than ${limit} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** containerd finds out by the commit that it has these bytes under a digest that it names. */
function alreadyThere(error: unknown): string | undefined {
  if (!VmError.is(error, 'AlreadyExists')) return undefined;
  return /sha256:[0-9a-f]{64}/.exec(error.message)?.[0];
}

async function relabel(
  client: ContainerdClient,
  digest: string,
  labels: (size: number) => Readonly<Record<string, string>>,
  options: CallOptions,
): Promise<StoredBlob> {
  const { info } = await client.call(CONTENT.info, { digest }, options);
  const size = info?.size ?? 0;
  const wanted = { ...labels(size) };
  const paths = Object.keys(wanted).map((key) => `labels.${key}`);
  if (paths.length > 0) {
    await client.call(CONTENT.update, { info: { digest, labels: wanted }, updateMask: { paths } }, options);
  }
  return { digest, size };
}

/** Removes what was written of a blob, also when the call was canceled; the lease ends what this does not reach. */
async function abandon(client: ContainerdClient, ref: string, { lease }: CallOptions): Promise<void> {
  const signal = AbortSignal.timeout(ABANDON_MS);
  await client.call(CONTENT.abort, { ref }, { signal, lease }).catch(() => undefined);
}

const ABANDON_MS = 5_000;
