import { show } from '../../core/spec-field.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { MAC_TYPE, parseMac } from './guest-mac.ts';
import { IF_NAME, IF_NAME_TYPE, SANDBOX_ID } from './names.ts';

const COMMANDS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const;
export type CniCommand = (typeof COMMANDS)[number];

/** What the runtime says by environment variables (CNI specification, "Parameters"). */
export type CniCall =
  | { readonly command: 'ADD' | 'CHECK' | 'DEL'; readonly nic: Nic; readonly environment: CniEnvironment }
  | { readonly command: 'GC' | 'STATUS'; readonly environment: CniEnvironment }
  | { readonly command: 'VERSION' };

/** The NIC a call is about. */
export interface Nic {
  readonly sandboxId: string;
  readonly ifName: string;
  /** Empty when DEL comes after the namespace has gone. */
  readonly netns: string;
  /** Identity that names and addresses are derived from: the pod's UID where it is known, else the sandbox's id. */
  readonly owner: string;
  /** `MAC` of CNI_ARGS. */
  readonly mac: string | undefined;
}

/** The CNI_ variables, as plugins that we run get them. */
export type CniEnvironment = Readonly<Record<`CNI_${string}`, string>>;

/** Reads the environment. Throws CniError `environment` that names every variable that is missing or wrong. */
export function parseCniCall(variables: Readonly<Record<string, string | undefined>>): CniCall {
  const said = variables['CNI_COMMAND'] ?? '';
  const command = COMMANDS.find((known) => known === said);
  if (command === undefined)
    throw wrong(`CNI_COMMAND is ${show(said)}; it must be one of ${COMMANDS.join(', ')}`);
  if (command === 'VERSION') return { command };
  const environment: Record<`CNI_${string}`, string> = {};
  for (const [name, value] of Object.entries(variables)) {
    if (/^CNI_[A-Z_]+$/.test(name) && value !== undefined) environment[name as `CNI_${string}`] = value;
  }
  expectVariables(command, environment);
  if (command === 'GC' || command === 'STATUS') return { command, environment };
  return { command, nic: parseNic(command, environment), environment };
}

function expectVariables(command: CniCommand, environment: CniEnvironment): void {
  const wanted: `CNI_${string}`[] = ['CNI_PATH'];
  if (command === 'ADD' || command === 'CHECK') wanted.push('CNI_NETNS');
  if (command !== 'GC' && command !== 'STATUS') wanted.push('CNI_CONTAINERID', 'CNI_IFNAME');
  const missing = wanted.filter((name) => (environment[name] ?? '') === '');
  if (missing.length === 0) return;
  throw wrong(
    `${missing.join(', ')} must be set for CNI_COMMAND ${command}; the container runtime has to say them`,
  );
}

function parseNic(command: CniCommand, environment: CniEnvironment): Nic {
  const sandboxId = environment['CNI_CONTAINERID'] ?? '';
  const ifName = environment['CNI_IFNAME'] ?? '';
  const netns = environment['CNI_NETNS'] ?? '';
  if (!SANDBOX_ID.test(sandboxId)) {
    throw wrong(
      `CNI_CONTAINERID is ${show(sandboxId)}; it must be letters, digits, "_", "." and "-", the first a letter or digit`,
    );
  }
  if (!IF_NAME.test(ifName)) {
    throw wrong(`CNI_IFNAME is ${show(ifName)}; it must be ${IF_NAME_TYPE}`);
  }
  if (command !== 'DEL' && !netns.startsWith('/')) {
    throw wrong(`CNI_NETNS is ${show(netns)}; it must be the absolute path of a network namespace`);
  }
  // What was derived at ADD is in the hand-over file; tearing down must not fail for arguments it does not need.
  const args = command === 'ADD' ? parseCniArgs(environment['CNI_ARGS'] ?? '') : new Map<string, string>();
  return { sandboxId, ifName, netns, owner: args.get('K8S_POD_UID') || sandboxId, mac: args.get('MAC') };
}

/** `KEY=VALUE;KEY=VALUE`. Keys that we do not know are other plugins'. */
function parseCniArgs(text: string): Map<string, string> {
  const args = new Map<string, string>();
  for (const pair of text.split(';')) {
    if (pair === '') continue;
    const [, key = '', value = ''] = /^([^=]+)=(.*)$/s.exec(pair) ?? [];
    if (key === '') throw wrong(`CNI_ARGS holds ${show(pair)}; it must be a list KEY=VALUE;KEY=VALUE`);
    args.set(key, value);
  }
  const mac = args.get('MAC');
  if (mac === undefined) return args;
  const parsed = parseMac(mac);
  if (parsed === undefined) throw wrong(`MAC of CNI_ARGS is ${show(mac)}; it must be ${MAC_TYPE}`);
  return args.set('MAC', parsed);
}

function wrong(message: string): CniError {
  return new CniError(CNI_CODE.environment, message);
}
