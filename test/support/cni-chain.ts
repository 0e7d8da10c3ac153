import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

/** Where plugins are looked for: ours, and Debian's. */
const PLUGIN_DIRS = [join(import.meta.dirname, '../../bin'), '/usr/lib/cni'];

/** A network configuration list, as it lies in /etc/cni/net.d. */
export interface CniList {
  readonly cniVersion: string;
  readonly name: string;
  readonly plugins: readonly CniPlugin[];
}

export interface CniPlugin {
  readonly type: string;
  readonly capabilities?: Readonly<Record<string, boolean>>;
  readonly [key: string]: unknown;
}

export interface CniAttachment {
  readonly sandboxId: string;
  readonly ifName?: string;
  /** Path; empty for a DEL after the namespace has gone. */
  readonly netns: string;
  /** CNI_ARGS. */
  readonly args?: Readonly<Record<string, string>>;
  readonly capabilityArgs?: Readonly<Record<string, unknown>>;
}

export interface CniResult {
  readonly cniVersion: string;
  readonly interfaces: readonly { name: string; mac?: string; sandbox?: string; mtu?: number }[];
  readonly ips: readonly { interface?: number; address: string; gateway?: string; version?: string }[];
  readonly routes: readonly { dst: string; gw?: string }[];
  readonly dns: Readonly<Record<string, unknown>>;
}

/** What a plugin said when it failed. */
export class CniFailure extends Error {
  readonly plugin: string;
  readonly code: number | undefined;

  constructor(plugin: string, message: string, code: number | undefined) {
    super(message);
    this.plugin = plugin;
    this.code = code;
  }
}

/**
 * Runs a list of plugins as libcni does (CNI specification, "Section 3"): each gets the result of the one before,
 * `runtimeConfig` holds the capabilities it declares, DEL goes backwards. The plugins run in the network namespace
 * `node`, which stands for the node's.
 */
export class CniChain {
  /** Told the pid of each plugin. */
  onSpawn: ((pid: number) => void) | undefined;
  readonly #node: string;
  readonly #list: CniList;
  readonly #directories: readonly string[];
  readonly #results = new Map<string, unknown>();

  /**
   * @param node name of a network namespace, as `ip netns` knows it.
   * @param directories of plugins that come before ours and Debian's.
   */
  constructor(node: string, list: CniList, directories: readonly string[] = []) {
    this.#node = node;
    this.#list = list;
    this.#directories = [...directories, ...PLUGIN_DIRS];
  }

  async add(attachment: CniAttachment): Promise<CniResult> {
    let result: unknown;
    for (const plugin of this.#list.plugins) {
      const said = await this.#run('ADD', plugin, { attachment, prevResult: result });
      result = JSON.parse(said);
    }
    this.#results.set(keyOf(attachment), result);
    return result as CniResult;
  }

  async check(attachment: CniAttachment, prevResult = this.#results.get(keyOf(attachment))): Promise<void> {
    for (const plugin of this.#list.plugins) await this.#run('CHECK', plugin, { attachment, prevResult });
  }

  async del(attachment: CniAttachment): Promise<void> {
    const prevResult = this.#results.get(keyOf(attachment));
    for (const plugin of this.#list.plugins.toReversed())
      await this.#run('DEL', plugin, { attachment, prevResult });
  }

  async status(): Promise<void> {
    for (const plugin of this.#list.plugins) await this.#run('STATUS', plugin, {});
  }

  /** Removes what is not of these attachments. */
  async gc(valid: readonly CniAttachment[]): Promise<void> {
    const attachments = valid.map(({ sandboxId, ifName = 'eth0' }) => ({
      containerID: sandboxId,
      ifname: ifName,
    }));
    for (const plugin of this.#list.plugins) {
      await this.#run('GC', plugin, { more: { 'cni.dev/valid-attachments': attachments } });
    }
  }

  async #run(
    command: string,
    plugin: CniPlugin,
    call: { attachment?: CniAttachment; prevResult?: unknown; more?: object },
  ): Promise<string> {
    const { attachment, prevResult, more } = call;
    const { cniVersion, name } = this.#list;
    const runtimeConfig = Object.fromEntries(
      Object.entries(attachment?.capabilityArgs ?? {}).filter(([key]) => plugin.capabilities?.[key] === true),
    );
    const config = {
      ...plugin,
      cniVersion,
      name,
      prevResult,
      ...(Object.keys(runtimeConfig).length > 0 && { runtimeConfig }),
      ...more,
    };
    const environment = {
      CNI_COMMAND: command,
      CNI_PATH: this.#directories.join(':'),
      ...(attachment !== undefined && {
        CNI_CONTAINERID: attachment.sandboxId,
        CNI_NETNS: attachment.netns,
        CNI_IFNAME: attachment.ifName ?? 'eth0',
        CNI_ARGS: Object.entries({ IgnoreUnknown: '1', ...attachment.args })
          .map(([key, value]) => `${key}=${value}`)
          .join(';'),
      }),
    };
    return await runCniPlugin(plugin.type, {
      node: this.#node,
      environment,
      stdin: JSON.stringify(config),
      ...(this.onSpawn !== undefined && { onSpawn: this.onSpawn }),
    });
  }
}

/** Runs one plugin to its end; gives its stdout. Throws CniFailure when it fails. */
export async function runCniPlugin(
  type: string,
  call: {
    readonly node: string;
    readonly environment: Readonly<Record<string, string>>;
    readonly stdin: string;
    readonly directories?: readonly string[];
    readonly onSpawn?: (pid: number) => void;
  },
): Promise<string> {
  const { node, environment, stdin, directories = PLUGIN_DIRS } = call;
  const path = directories.map((directory) => join(directory, type)).find((file) => existsSync(file));
  if (path === undefined) throw new Error(`no plugin ${type} in ${directories.join(', ')}`);
  const child = spawn('ip', ['netns', 'exec', node, path], {
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  if (child.pid !== undefined) call.onSpawn?.(child.pid);
  child.stdin.end(stdin);
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  if (status === 0) return stdout;
  throw failure(type, stdout, stderr);
}

function failure(plugin: string, stdout: string, stderr: string): CniFailure {
  try {
    const { msg, details, code } = JSON.parse(stdout) as { msg: string; details?: string; code: number };
    return new CniFailure(plugin, [msg, details].filter(Boolean).join('; '), code);
  } catch {
    return new CniFailure(plugin, `${stdout}${stderr}`, undefined);
  }
}

function keyOf({ sandboxId, ifName = 'eth0' }: CniAttachment): string {
  return `${sandboxId}/${ifName}`;
}
