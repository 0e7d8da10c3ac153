import { VmError } from '../../core/errors.ts';
import type { Host } from '../../host/host.ts';
import { add } from './add.ts';
import { check } from './check.ts';
import { type CniCommand, parseCniCall } from './cni-call.ts';
import { CNI_CODE, cniCode, CniError } from './cni-error.ts';
import { CNI_VERSIONS, type CniVersion, findVersion, isAtLeast, NEWEST_VERSION } from './cni-version.ts';
import { del } from './del.ts';
import { gc } from './gc.ts';
import { parseNetworkConfig, parseNetworkIdentity } from './network-config.ts';
import { status } from './status.ts';

/** One call of the plugin: what the runtime gave it. */
export interface PluginInput {
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly stdin: () => string;
  readonly signal?: AbortSignal;
}

/** What it answers: the text for stdout, and the exit status. */
export interface PluginOutput {
  readonly stdout: string;
  readonly status: 0 | 1;
}

/** The version of the specification that a command came with. */
const SINCE: Readonly<Record<CniCommand, CniVersion>> = {
  ADD: '0.3.1',
  DEL: '0.3.1',
  VERSION: '0.3.1',
  CHECK: '0.4.0',
  GC: '1.1.0',
  STATUS: '1.1.0',
};

/** The CNI plugin `vm-tap` (CNI specification 1.1, "Section 2: Execution Protocol"). Never rejects. */
export async function runPlugin(host: Host, input: PluginInput): Promise<PluginOutput> {
  let stdin = '';
  try {
    stdin = input.stdin();
    const answer = await answerTo(host, input, stdin);
    return { stdout: answer === undefined ? '' : `${JSON.stringify(answer)}\n`, status: 0 };
  } catch (error) {
    const answer = {
      cniVersion: saidVersion(stdin) ?? NEWEST_VERSION,
      code: cniCode(error),
      msg: VmError.from(error).message,
    };
    return { stdout: `${JSON.stringify(answer)}\n`, status: 1 };
  }
}

async function answerTo(
  host: Host,
  { variables, signal }: PluginInput,
  stdin: string,
): Promise<object | undefined> {
  const call = parseCniCall(variables);
  if (call.command === 'VERSION') {
    return { cniVersion: saidVersion(stdin) ?? NEWEST_VERSION, supportedVersions: CNI_VERSIONS };
  }
  const network = parseNetworkIdentity(stdin);
  if (!isAtLeast(network.cniVersion, SINCE[call.command])) {
    throw new CniError(
      CNI_CODE.incompatibleVersion,
      `cniVersion of network "${network.name}" is ${network.cniVersion}, which has no ${call.command}; it came with ${SINCE[call.command]}`,
    );
  }
  switch (call.command) {
    case 'ADD':
      return await add(host, parseNetworkConfig(network), call, signal);
    case 'DEL':
      await del(host, network, call, signal);
      return undefined;
    case 'CHECK':
      await check(host, parseNetworkConfig(network), call, signal);
      return undefined;
    case 'GC':
      await gc(host, network, call.environment, signal);
      return undefined;
    case 'STATUS':
      await status(host, parseNetworkConfig(network), call.environment, signal);
      return undefined;
  }
}

/** `cniVersion` of whatever came on stdin, if it is one of ours. */
function saidVersion(stdin: string): CniVersion | undefined {
  try {
    const value: unknown = JSON.parse(stdin);
    return typeof value === 'object' && value !== null && 'cniVersion' in value
      ? findVersion(value.cniVersion)
      : undefined;
  } catch {
    return undefined;
  }
}
