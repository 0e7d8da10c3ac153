import type { ExecResult, Host } from '../../host/host.ts';
import type { CniCommand, CniEnvironment } from './cni-call.ts';
import { type CniDns, NO_DNS, parseDns } from './cni-dns.ts';
import { CNI_CODE, CniError } from './cni-error.ts';
import { execPlugin, findPlugin } from './exec-plugin.ts';
import { canonicalIp, ipFamily, type IpPrefix, parsePrefix } from './ip-address.ts';
import { JsonField } from './json-field.ts';
import type { NetworkIdentity } from './network-config.ts';

/** What an IPAM plugin gave (CNI specification, "Delegated Plugins (IPAM)"). */
export interface IpamResult {
  readonly ips: readonly { readonly prefix: IpPrefix; readonly gateway: string | undefined }[];
  readonly routes: readonly IpamRoute[];
  readonly dns: CniDns;
}

export interface IpamAnswer {
  readonly ipam: IpamResult;
  /** As the plugin wrote it; undefined without one. */
  readonly raw: unknown;
}

export interface IpamRoute {
  /** CIDR. */
  readonly dst: string;
  readonly gw: string | undefined;
  /** `mtu`, `advmss`, `priority`, `table` and `scope` of version 1.1. */
  readonly rest: Readonly<Record<string, unknown>>;
}

/** Key of the configuration of GC (CNI specification, "GC"). */
export const VALID = 'cni.dev/valid-attachments';

const NOTHING: IpamResult = { ips: [], routes: [], dns: NO_DNS };

/** IPAM plugins released before version 1.1 of the specification are asked in this one. */
const BEFORE_1_1 = '1.0.0';

/** The IPAM plugin of a network, run once per question (CNI specification, "Section 4"). Without one nothing happens. */
export class Ipam {
  readonly #host: Host;
  readonly #network: NetworkIdentity;
  readonly #environment: CniEnvironment;
  readonly #signal: AbortSignal | undefined;

  constructor(host: Host, network: NetworkIdentity, environment: CniEnvironment, signal?: AbortSignal) {
    this.#host = host;
    this.#network = network;
    this.#environment = environment;
    this.#signal = signal;
  }

  /** @throws CniError `ipam`, or `tryAgain` when the plugin said so. */
  async add(): Promise<IpamAnswer> {
    const end = await this.#ask('ADD');
    if (end === undefined) return { ipam: NOTHING, raw: undefined };
    try {
      const answer = this.#parse(end.stdout);
      return { ipam: parseResult(answer), raw: answer.value };
    } catch (error) {
      // It has given something all the same.
      await this.del();
      throw error;
    }
  }

  /** An answer that was kept since it was given. @throws CniError `ipam` where it was changed meanwhile. */
  read(raw: unknown): IpamAnswer {
    if (raw === undefined) return { ipam: NOTHING, raw };
    return { ipam: parseResult(this.#field(raw)), raw };
  }

  /** Idempotent, as the specification wants it of the plugin. */
  async del(environment: Partial<CniEnvironment> = {}): Promise<void> {
    await this.#ask('DEL', environment);
  }

  async check(): Promise<void> {
    await this.#ask('CHECK');
  }

  /** A plugin from before version 1.1 has nothing to tell. */
  async status(): Promise<void> {
    await this.#ask('STATUS');
  }

  /** A plugin from before version 1.1 cannot; whoever asks has to `del` what it knows to be stale. */
  /** @param kept leases that the runtime does not list, of guests that outlive their sandboxes. */
  async gc(kept: readonly { readonly containerID: string; readonly ifname: string }[]): Promise<void> {
    if (kept.length === 0) {
      await this.#ask('GC');
      return;
    }
    const document = { ...this.#network.document.object() };
    const listed = document[VALID];
    const all = [...(Array.isArray(listed) ? (listed as unknown[]) : []), ...kept];
    const text = JSON.stringify({ ...document, [VALID]: all });
    const network = { ...this.#network, text };
    await new Ipam(this.#host, network, this.#environment, this.#signal).gc([]);
  }

  async #ask(command: CniCommand, more: Partial<CniEnvironment> = {}): Promise<ExecResult | undefined> {
    const { ipam, text, document } = this.#network;
    if (ipam === undefined) return undefined;
    const path = findPlugin(this.#host, this.#environment, ipam);
    const environment = { ...this.#environment, ...more, CNI_COMMAND: command } as CniEnvironment;
    const run = (input: string): Promise<ExecResult> =>
      execPlugin(this.#host, path, { environment, input, signal: this.#signal });
    let end = await run(text);
    if (end.status === 0) return end;
    if (isOlder(errorCode(end.stdout)) && this.#network.cniVersion === '1.1.0') {
      if (command === 'STATUS' || command === 'GC') return undefined;
      end = await run(inVersion(document, BEFORE_1_1));
      if (end.status === 0) return end;
    }
    throw this.#failure(end);
  }

  #parse(stdout: string): JsonField {
    const value = parseJson(stdout);
    if (value === undefined)
      throw wrongAnswer(`the answer of IPAM plugin "${this.#network.ipam ?? ''}" is no JSON`);
    return this.#field(value);
  }

  #field(value: unknown): JsonField {
    return new JsonField(value, `the answer of IPAM plugin "${this.#network.ipam ?? ''}"`, wrongAnswer);
  }

  #failure({ status, stdout, stderr }: ExecResult): CniError {
    const said = parseJson(stdout) as { msg?: unknown; details?: unknown } | null | undefined;
    const texts = [said?.msg, said?.details].filter((text) => typeof text === 'string' && text !== '');
    const why = texts.length > 0 ? texts.join('; ') : stderr.trim() || stdout.trim() || 'it did not say why';
    const code = errorCode(stdout) === CNI_CODE.tryAgain ? CNI_CODE.tryAgain : CNI_CODE.ipam;
    return new CniError(
      code,
      `IPAM plugin "${this.#network.ipam ?? ''}" of network "${this.#network.name}" failed with status ${status}: ${why}`,
    );
  }
}

function wrongAnswer(sentence: string): CniError {
  return new CniError(CNI_CODE.ipam, `${sentence}; correct its configuration`);
}

function parseResult(root: JsonField): IpamResult {
  const ips = root
    .at('ips')
    .list()
    .map((ip) => {
      const prefix = ip.at('address').requiredText('a CIDR such as "10.1.0.5/24"', parsePrefix);
      const gateway = ip.at('gateway').parsedText(`an IPv${ipFamily(prefix.address)} address`, (text) => {
        const address = canonicalIp(text);
        return address !== undefined && ipFamily(address) === ipFamily(prefix.address) ? address : undefined;
      });
      return { prefix, gateway };
    });
  if (ips.length === 0) throw root.at('ips').invalid('a list of at least one address');
  return { ips, routes: root.at('routes').list().map(parseRoute), dns: parseDns(root.at('dns')) };
}

function parseRoute(field: JsonField): IpamRoute {
  const { dst: _dst, gw: _gw, ...rest } = field.object() ?? {};
  return {
    dst: field.at('dst').requiredText('a CIDR such as "0.0.0.0/0"', (text) => parsePrefix(text)?.text),
    gw: field.at('gw').parsedText('an IP address', canonicalIp),
    rest,
  };
}

/**
 * Whether a plugin is from before 1.1: it does not know the version (1), nor the commands of it (4), for which it may
 * look only after it has missed a container's id (3).
 */
function isOlder(code: unknown): boolean {
  return (
    [CNI_CODE.incompatibleVersion, CNI_CODE.unknownContainer, CNI_CODE.environment] as unknown[]
  ).includes(code);
}

function inVersion(document: JsonField, cniVersion: string): string {
  const previous = document.at('prevResult').object();
  const prevResult = previous === undefined ? undefined : { ...previous, cniVersion };
  return JSON.stringify({ ...document.object(), cniVersion, prevResult });
}

function errorCode(stdout: string): unknown {
  const said = parseJson(stdout);
  return typeof said === 'object' && said !== null && 'code' in said ? said.code : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
