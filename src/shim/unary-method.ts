import { VmError } from '../core/errors.ts';
import type { CallContext, UnaryMethod } from '../ttrpc/method.ts';

/** A method of typed messages: decode, call, encode. Bytes that are no such request are InvalidArgument. */
export function unary<Request, Reply>(
  request: { decode(bytes: Uint8Array): Request },
  reply: { encode(message: Reply): { finish(): Uint8Array } },
  handle: (request: Request, call: CallContext) => Reply | Promise<Reply>,
): UnaryMethod {
  return {
    kind: 'unary',
    handle: async (payload, call) =>
      reply.encode(await handle(decodeRequest(request, payload), call)).finish(),
  };
}

function decodeRequest<Request>(type: { decode(bytes: Uint8Array): Request }, payload: Uint8Array): Request {
  try {
    return type.decode(payload);
  } catch (cause) {
    throw new VmError('InvalidArgument', 'the request is no message of this method', { cause });
  }
}
