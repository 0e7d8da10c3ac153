import { VmError } from '../core/errors.ts';

/** What containerd asked this program to do. */
export type ShimCommand =
  | { readonly action: 'version' }
  | { readonly action: 'info' }
  | { readonly action: 'start'; readonly flags: ShimFlags }
  | { readonly action: 'delete'; readonly flags: ShimFlags }
  /** Ours, not containerd's: `-bundle` is the VM's directory. */
  | { readonly action: 'keep'; readonly flags: ShimFlags };

export interface ShimFlags {
  readonly namespace: string;
  readonly id: string;
  /** containerd's gRPC socket; part of the shim's own socket name. */
  readonly address: string;
  readonly publishBinary: string;
  /** Only `delete` gets it; elsewhere the bundle is the working directory. */
  readonly bundle: string;
  readonly debug: boolean;
}

const VALUE_FLAGS = [
  'namespace',
  'id',
  'address',
  'publish-binary',
  'bundle',
  'socket',
  'debug-socket',
] as const;
const BOOL_FLAGS = ['debug', 'v', 'version', 'info'] as const;
type ValueFlag = (typeof VALUE_FLAGS)[number];
type BoolFlag = (typeof BOOL_FLAGS)[number];

/** containerd's own rule for namespaces and ids (its `identifiers` package): at most 76 characters. */
const IDENTIFIER = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/;

/**
 * Parses the command line in the syntax of Go's `flag` package (`-x v`, `--x v`, `-x=v`; flags end at the first word
 * that is not one), which is what containerd writes.
 * @throws VmError InvalidArgument naming the flag.
 */
export function parseShimArgs(argv: readonly string[]): ShimCommand {
  const values = new Map<ValueFlag, string>();
  const set = new Set<BoolFlag>();
  let i = 0;
  for (; i < argv.length; i++) {
    const word = argv[i] ?? '';
    if (word === '--') {
      i++;
      break;
    }
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word);
    if (match === null) break;
    const [, name = '', inline] = match;
    const boolFlag = BOOL_FLAGS.find((flag) => flag === name);
    if (boolFlag !== undefined) {
      if (inline === undefined || /^(1|t|true)$/i.test(inline)) set.add(boolFlag);
      else if (!/^(0|f|false)$/i.test(inline))
        throw invalid(`flag -${name} takes true or false, not "${inline}"`);
      continue;
    }
    const valueFlag = VALUE_FLAGS.find((flag) => flag === name);
    if (valueFlag === undefined)
      throw invalid(
        `flag -${name} is not known; containerd gives ${[...VALUE_FLAGS, ...BOOL_FLAGS].map((flag) => `-${flag}`).join(' ')}`,
      );
    const value = inline ?? argv[++i];
    if (value === undefined) throw invalid(`flag -${name} needs a value after it`);
    values.set(valueFlag, value);
  }
  if (set.has('v') || set.has('version')) return { action: 'version' };
  if (set.has('info')) return { action: 'info' };
  const flags: ShimFlags = {
    namespace: identifier('namespace', values.get('namespace')),
    id: identifier('id', values.get('id')),
    address: values.get('address') ?? '',
    publishBinary: values.get('publish-binary') ?? '',
    bundle: values.get('bundle') ?? '',
    debug: set.has('debug'),
  };
  const action = argv[i];
  if (action === undefined) throw invalid('the action is missing; it must be start or delete');
  if (action === 'start' || action === 'delete' || action === 'keep') return { action, flags };
  throw invalid(`action "${action}" is not known; it must be start or delete`);
}

function identifier(flag: string, value: string | undefined): string {
  if (value === undefined || value === '')
    throw invalid(`flag -${flag} is missing; containerd always gives it`);
  if (value.length > 76 || !IDENTIFIER.test(value)) {
    throw invalid(
      `flag -${flag} is "${value}", which is no containerd identifier (letters, digits and single . _ -, 76 at most)`,
    );
  }
  return value;
}

const invalid = (message: string): VmError => new VmError('InvalidArgument', message);
