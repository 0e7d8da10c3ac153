import { VmError } from '../core/errors.ts';
import { type AnyMessage, fieldText as text, readFields } from '../core/protobuf-fields.ts';

/** What `start` found on its stdin. containerd 2.3 sends BootstrapParams, 1.6 to 2.2 a bare Any or nothing. */
export type StartInput =
  | { readonly kind: 'bootstrap'; readonly params: BootstrapParams }
  | { readonly kind: 'options'; readonly options: AnyMessage }
  | { readonly kind: 'empty' };

export interface BootstrapParams {
  readonly id: string;
  readonly namespace: string;
  readonly ttrpcAddress: string;
  readonly grpcAddress: string;
  readonly socketDir: string | undefined;
  readonly options: AnyMessage | undefined;
}

/**
 * Tells the forms apart. A BootstrapParams carries our own id and namespace in fields 1 and 2; an Any carries a type
 * name in field 1, which always has a dot or a slash. Decoded by hand: `start` is on every pod's critical path and the
 * generated codec costs it 7 ms.
 * Source: containerd api/runtime/bootstrap/v1/bootstrap.proto, google/protobuf/any.proto.
 */
export function parseStartInput(bytes: Uint8Array, id: string, namespace: string): StartInput {
  if (bytes.length === 0) return { kind: 'empty' };
  const fields = readFields(bytes);
  const first = text(fields.get(1)?.[0]);
  if (first === id && text(fields.get(2)?.[0]) === namespace) {
    const extension = fields
      .get(8)
      ?.map((value) => readFields(value).get(1)?.[0])
      .find((any) => any !== undefined);
    const socketDir = text(fields.get(9)?.[0]);
    return {
      kind: 'bootstrap',
      params: {
        id: first,
        namespace,
        ttrpcAddress: text(fields.get(5)?.[0]),
        grpcAddress: text(fields.get(6)?.[0]),
        socketDir: socketDir === '' ? undefined : socketDir,
        options: extension === undefined ? undefined : anyOf(readFields(extension)),
      },
    };
  }
  if (/[./]/.test(first)) return { kind: 'options', options: anyOf(fields) };
  throw new VmError(
    'InvalidArgument',
    `stdin of start is neither BootstrapParams for "${id}" nor runtime options; this containerd is newer than this shim knows`,
  );
}

const anyOf = (fields: Map<number, Uint8Array[]>): AnyMessage => ({
  typeUrl: text(fields.get(1)?.[0]),
  value: fields.get(2)?.[0] ?? new Uint8Array(),
});
