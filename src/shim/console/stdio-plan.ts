import { VmError } from '../../core/errors.ts';

/** The stdio fields of CreateTaskRequest. `terminal` makes no difference to a serial console; clients ask for it back. */
export interface TaskStdioPaths {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
}

/** `path` is a fifo, or a file that exists; which of them is seen when it is opened. */
export type OutputPlan =
  | { readonly kind: 'discard' }
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'logger'; readonly path: string; readonly args: readonly string[] };

export interface StdioPlan {
  /** Path of a fifo, or undefined. */
  readonly stdin: string | undefined;
  readonly stdout: OutputPlan;
  /** Path to hold open until exit, or undefined: a serial console has no second output. */
  readonly stderr: string | undefined;
}

type Field = 'stdin' | 'stdout' | 'stderr';

/**
 * Parses the stdio strings of a CreateTaskRequest (containerd runtime v2, "IO"). Throws InvalidArgument for what is no
 * address and Unimplemented for schemes this shim does not serve.
 */
export function parseStdio(request: TaskStdioPaths): StdioPlan {
  const stdin = parseOutput('stdin', request.stdin);
  if (stdin.kind === 'file' || stdin.kind === 'logger') throw unsupported('stdin', request.stdin);
  const stderr = parseOutput('stderr', request.stderr);
  return {
    stdin: stdin.kind === 'path' ? stdin.path : undefined,
    stdout: parseOutput('stdout', request.stdout),
    stderr: stderr.kind === 'path' ? stderr.path : undefined,
  };
}

function parseOutput(field: Field, value: string): OutputPlan {
  if (value === '') return { kind: 'discard' };
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(value)?.[1]?.toLowerCase();
  if (scheme === undefined) return { kind: 'path', path: absolute(field, value, value) };
  if (scheme !== 'file' && scheme !== 'binary') throw unsupported(field, value);
  const url = parseUrl(field, value);
  const path = absolute(field, value, decode(field, value, url.pathname));
  if (scheme === 'file') return { kind: 'file', path };
  return { kind: 'logger', path, args: loggerArgs(url.searchParams) };
}

function parseUrl(field: Field, value: string): URL {
  const url = URL.parse(value);
  if (url === null || (url.host !== '' && url.host !== 'localhost')) throw malformed(field, value);
  return url;
}

function decode(field: Field, value: string, path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw malformed(field, value);
  }
}

/** Each key once, followed by its first value unless that is empty. */
function loggerArgs(query: URLSearchParams): string[] {
  return [...new Set(query.keys())].flatMap((key) => {
    const value = query.get(key) ?? '';
    return value === '' ? [key] : [key, value];
  });
}

function absolute(field: Field, value: string, path: string): string {
  if (!path.startsWith('/') || path.endsWith('/') || path.includes('\0')) throw malformed(field, value);
  return path;
}

function malformed(field: Field, value: string): VmError {
  return new VmError(
    'InvalidArgument',
    `${field} ${JSON.stringify(value)} is not an address: give an absolute path, file:///path or binary:///path?key=value`,
  );
}

function unsupported(field: Field, value: string): VmError {
  const hint = value.includes('streaming_id=')
    ? 'remove io_type = "streaming" from the runtime’s table in containerd’s config'
    : field === 'stdin'
      ? 'give the absolute path of a fifo'
      : 'give an absolute path, file:///path or binary:///path?key=value';
  return new VmError(
    'Unimplemented',
    `${field} ${JSON.stringify(value)} is a kind of stream this shim does not serve: ${hint}`,
  );
}
