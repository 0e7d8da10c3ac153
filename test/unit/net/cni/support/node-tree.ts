import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ExecOptions, ExecResult, FileInfo } from '../../../../../src/host/host.ts';
import { LinuxHost } from '../../../../../src/host/linux-host.ts';
import { VmError } from '../../../../../src/core/errors.ts';
import { type Teardown, tempDir } from '../../../../support/temp-dir.ts';

/**
 * The machine with another /proc and other links: a temporary tree in which a test puts what the node has. Commands about
 * the network are noted and answered by `answer`, but for the question after a link; any other command runs.
 */
export class NodeTree extends LinuxHost {
  readonly commands: string[] = [];
  answer: (command: string) => string = () => '';
  readonly directory: string;
  readonly #links = new Map<string, object>();

  constructor(t: Teardown) {
    super();
    this.directory = tempDir(t);
    mkdirSync(join(this.directory, 'netns'));
    writeFileSync(this.netns, '');
  }

  get stateDir(): string {
    return join(this.directory, 'state');
  }

  get netns(): string {
    return join(this.directory, 'netns/pod');
  }

  put(path: string, text: string): this {
    mkdirSync(dirname(this.#place(path)), { recursive: true });
    writeFileSync(this.#place(path), text);
    return this;
  }

  get(path: string): string {
    return readFileSync(this.#place(path), 'utf8');
  }

  putBridge(name: string, { mtu = 1500, up = true, filtersVlans = false } = {}): this {
    const linkinfo = { info_kind: 'bridge', info_data: { vlan_filtering: filtersVlans ? 1 : 0 } };
    return this.putLink(name, { flags: up ? ['UP'] : [], mtu, linkinfo });
  }

  /** As `ip -json -details address show` tells of it. */
  putLink(name: string, more: object = {}): this {
    this.#links.set(name, { ifname: name, flags: ['UP'], mtu: 1500, addr_info: [], ...more });
    return this;
  }

  removeLink(name: string): void {
    this.#links.delete(name);
  }

  /** A plugin of the directory `plugins`, whose log has a line per call: command, interface, configuration. */
  putPlugin(name: string, script: string): string {
    const path = join(this.plugins, name);
    mkdirSync(this.plugins, { recursive: true });
    const log = `config=$(cat); echo "$CNI_COMMAND $CNI_CONTAINERID/$CNI_IFNAME $config" >>${this.directory}/calls`;
    writeFileSync(path, `#!/bin/sh\n${log}\n${script}\n`, { mode: 0o755 });
    return path;
  }

  get plugins(): string {
    return join(this.directory, 'plugins');
  }

  /** What the plugins of `putPlugin` were asked, without the configurations. */
  get calls(): string[] {
    return this.calledWith.map((line) => line.split(' ').slice(0, 2).join(' '));
  }

  get calledWith(): string[] {
    const path = join(this.directory, 'calls');
    return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
  }

  override readText(path: string): string {
    return super.readText(this.#place(path));
  }

  override writeText(path: string, text: string): void {
    super.writeText(this.#place(path), text);
  }

  override inspect(path: string): FileInfo | undefined {
    return super.inspect(this.#place(path));
  }

  override exec(file: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    if (!['ip', 'tc', 'ovs-vsctl', 'bridge', 'nft'].includes(file)) return super.exec(file, args, options);
    if (args.join(' ').startsWith('-details -json address show dev ')) {
      const link = this.#links.get(args.at(-1) ?? '');
      const stderr = `Device "${args.at(-1) ?? ''}" does not exist.`;
      return Promise.resolve(
        link === undefined
          ? { status: 1, stdout: '', stderr }
          : { status: 0, stdout: JSON.stringify([link]), stderr: '' },
      );
    }
    const command = [
      file,
      ...args,
      ...(options.input === undefined ? [] : [`<${String(options.input)}`]),
    ].join(' ');
    this.commands.push(command);
    try {
      return Promise.resolve({ status: 0, stdout: this.answer(command), stderr: '' });
    } catch (error) {
      return Promise.reject(VmError.from(error));
    }
  }

  #place(path: string): string {
    return path.startsWith('/proc/') ? join(this.directory, path) : path;
  }
}
