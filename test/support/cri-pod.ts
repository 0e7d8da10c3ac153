import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type {
  ContainerConfig,
  ContainerStatus,
  Mount,
  NamespaceMode,
  PodSandboxConfig,
  PodSandboxStatus,
  PortMapping,
  Resources,
} from './cri/messages.ts';
import type { CriNode } from './cri-containerd.ts';
import { ContainerLog } from './cri-log.ts';
import { ATTACH_CHANNEL, CriStream } from './cri-stream.ts';
import type { ExpectText } from './expect-text.ts';
import { patience } from './machine-traits.ts';
import type { Teardown } from './temp-dir.ts';
import { vmImage } from './vm-image.ts';

/** Longer than the guest takes for anything. */
const PATIENCE_MS = patience(600_000);

export interface PodOptions {
  readonly name?: string;
  /** Name of a runtime; `vm` by default, '' for runc. */
  readonly handler?: string;
  /** A pod that is run again keeps its uid. */
  readonly uid?: string;
  readonly attempt?: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly network?: NamespaceMode;
  readonly portMappings?: readonly PortMapping[];
}

export interface ContainerOptions {
  readonly name?: string;
  readonly attempt?: number;
  readonly image?: string;
  readonly command?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly mounts?: readonly Mount[];
  readonly devices?: ContainerConfig['devices'];
  readonly stdin?: boolean;
  readonly tty?: boolean;
  readonly resources?: Resources;
}

/** A pod as kubelet runs it: its directories and its cgroup beside what CRI knows. */
export class CriPod {
  readonly id: string;
  readonly config: PodSandboxConfig;
  readonly #node: CriNode;

  private constructor(node: CriNode, config: PodSandboxConfig, id: string) {
    this.#node = node;
    this.config = config;
    this.id = id;
  }

  /** The pod is removed when the test ends, if it is still there then. Rejects with what RunPodSandbox says. */
  static async run(t: Teardown, node: CriNode, options: PodOptions = {}): Promise<CriPod> {
    const { name = 'web-0', handler = 'vm', attempt = 0, network = 'POD' } = options;
    const uid = options.uid ?? randomUUID();
    const config: PodSandboxConfig = {
      metadata: { name, uid, namespace: 'shop', attempt },
      hostname: name,
      logDirectory: join(node.kubeletDir, 'log', `shop_${name}_${uid}`),
      dnsConfig: { servers: ['10.96.0.10'], searches: ['shop.svc.cluster.local'] },
      portMappings: options.portMappings ?? [],
      labels: { 'io.kubernetes.pod.uid': uid },
      annotations: options.annotations ?? {},
      linux: { cgroupParent: node.cgroups.add(uid), securityContext: { namespaceOptions: { network } } },
    };
    mkdirSync(config.logDirectory ?? '', { recursive: true });
    const { podSandboxId } = await node.cri.call('RunPodSandbox', { config, runtimeHandler: handler });
    const pod = new CriPod(node, config, podSandboxId);
    t.teardown(() => pod.remove());
    return pod;
  }

  async status(): Promise<PodSandboxStatus> {
    return (await this.#node.cri.call('PodSandboxStatus', { podSandboxId: this.id })).status;
  }

  /** IPv4 and IPv6 addresses. */
  async addresses(): Promise<string[]> {
    const { network } = await this.status();
    return network === null ? [] : [network.ip, ...network.additionalIps.map(({ ip }) => ip)];
  }

  /** Where kubelet keeps the pod's volumes. */
  get directory(): string {
    return join(this.#node.kubeletDir, 'pods', this.config.metadata.uid);
  }

  /** A VM of the test guest, booted by its kernel, unless `options` say otherwise. */
  async create(options: ContainerOptions = {}): Promise<CriContainer> {
    const { name = 'guest', attempt = 0 } = options;
    const guest = await vmImage();
    const boot = { 'vmshim.io/memory': '128Mi', ...guest.kernelBoot };
    const terminationLog = join(this.directory, 'containers', name, String(attempt));
    const config: ContainerConfig = {
      metadata: { name, attempt },
      image: { image: options.image ?? guest.name },
      command: options.command ?? ['vm'],
      envs: [{ key: 'KUBERNETES_SERVICE_HOST', value: '10.96.0.1' }],
      mounts: [...this.#mounts(terminationLog), ...(options.mounts ?? [])],
      devices: options.devices ?? [],
      annotations: options.annotations ?? (options.image === undefined ? boot : {}),
      logPath: `${name}/${attempt}.log`,
      stdin: options.stdin ?? false,
      tty: options.tty ?? false,
      linux: { resources: options.resources ?? {} },
    };
    const logFile = join(this.config.logDirectory ?? '', config.logPath ?? '');
    mkdirSync(dirname(logFile), { recursive: true });
    const { containerId } = await this.#node.cri.call('CreateContainer', {
      podSandboxId: this.id,
      config,
      sandboxConfig: this.config,
    });
    return new CriContainer(this.#node, {
      id: containerId,
      tty: config.tty ?? false,
      log: new ContainerLog(logFile),
      terminationLog,
    });
  }

  /** Creates and starts. */
  async start(options: ContainerOptions = {}): Promise<CriContainer> {
    const container = await this.create(options);
    await container.start();
    return container;
  }

  /** Resolves when the sandbox has ended by itself. */
  async ended(): Promise<void> {
    const deadline = Date.now() + PATIENCE_MS;
    while (await this.#lives()) {
      if (Date.now() > deadline) throw new Error(`sandbox ${this.id} is ready still`);
      await delay(50);
    }
  }

  async #lives(): Promise<boolean> {
    try {
      return (await this.status()).state !== 'SANDBOX_NOTREADY';
    } catch (error) {
      // Where the shim makes the sandbox, containerd asks it, and fails once when it has just lost it.
      if (/ttrpc: closed/.test(String(error))) return true;
      throw error;
    }
  }

  /**
   * `kubectl port-forward`: a connection to a port of the pod. The server begins both channels with the port's number, in two
   * bytes; the second channel says what went wrong.
   */
  async forward(port: number): Promise<Forwarded> {
    const { url } = await this.#node.cri.call('PortForward', { podSandboxId: this.id, port: [port] });
    return new Forwarded(await CriStream.open(this.#node.network, url, `?port=${port}`));
  }

  async stop(): Promise<void> {
    await this.#insist(() => this.#node.cri.call('StopPodSandbox', { podSandboxId: this.id }));
  }

  /** Everything of the pod, in kubelet's order. What is gone already is fine. */
  async remove(): Promise<void> {
    const { cri } = this.#node;
    if ((await cri.call('ListPodSandbox', { filter: { id: this.id } })).items.length === 0) return;
    const { containers } = await cri.call('ListContainers', { filter: { podSandboxId: this.id } });
    await this.stop();
    for (const { id } of containers) await cri.call('RemoveContainer', { containerId: id });
    await this.#insist(() => cri.call('RemovePodSandbox', { podSandboxId: this.id }));
  }

  /**
   * Asks a second time, as kubelet does, where containerd has lost its connection to a shim that ends while one of its own
   * calls was still on the way. Rare enough to say what came before it.
   */
  async #insist(ask: () => Promise<unknown>): Promise<void> {
    try {
      await ask();
    } catch (error) {
      if (!/ttrpc: closed/.test(String(error))) throw error;
      process.stderr.write(`${String(error)}\n${this.#node.containerd.log().slice(-8000)}\n`);
      await ask();
    }
  }

  /** What kubelet mounts into every container; none of it is a volume of the user's. */
  #mounts(terminationLog: string): Mount[] {
    const hosts = join(this.directory, 'etc-hosts');
    const token = join(this.directory, 'volumes/kubernetes.io~projected/kube-api-access-x2x4x');
    mkdirSync(token, { recursive: true });
    mkdirSync(dirname(terminationLog), { recursive: true });
    writeFileSync(join(token, 'token'), 'secret');
    writeFileSync(hosts, '127.0.0.1 localhost\n');
    writeFileSync(terminationLog, '');
    return [
      {
        containerPath: '/var/run/secrets/kubernetes.io/serviceaccount',
        hostPath: token,
        readonly: true,
      },
      { containerPath: '/etc/hosts', hostPath: hosts },
      { containerPath: '/dev/termination-log', hostPath: terminationLog },
    ];
  }
}

/** A container of a pod; for handler `vm` the VM. */
export class CriContainer {
  readonly id: string;
  readonly log: ContainerLog;
  readonly #node: CriNode;
  readonly #tty: boolean;
  readonly #terminationLog: string;

  constructor(
    node: CriNode,
    parts: {
      readonly id: string;
      readonly tty: boolean;
      readonly log: ContainerLog;
      readonly terminationLog: string;
    },
  ) {
    this.#node = node;
    this.id = parts.id;
    this.log = parts.log;
    this.#tty = parts.tty;
    this.#terminationLog = parts.terminationLog;
  }

  /** What kubelet shows as the message of a container that has ended. */
  get terminationMessage(): string {
    return readFileSync(this.#terminationLog, 'utf8');
  }

  async status(): Promise<ContainerStatus> {
    return (await this.#node.cri.call('ContainerStatus', { containerId: this.id })).status;
  }

  async start(): Promise<void> {
    await this.#node.cri.call('StartContainer', { containerId: this.id });
  }

  /** `kubectl attach -i`, with `-t` for a container that has a terminal. */
  async attach(): Promise<Attached> {
    const { url } = await this.#node.cri.call('Attach', {
      containerId: this.id,
      stdin: true,
      tty: this.#tty,
      stdout: true,
      stderr: false,
    });
    return new Attached(await CriStream.open(this.#node.network, url));
  }

  /** `kubectl exec` without a terminal: resolves with what the streaming server says of its end, a JSON status. */
  async exec(...cmd: string[]): Promise<string> {
    const { url } = await this.#node.cri.call('Exec', {
      containerId: this.id,
      cmd,
      stdout: true,
      stderr: true,
    });
    using stream = await CriStream.open(this.#node.network, url);
    return (await stream.channel(ATTACH_CHANNEL.error).until(/.+/))[0];
  }

  /**
   * Resolves when the container has ended. CRI 1.6 tells of nothing by itself: kubelet asks once a second as well.
   */
  async exited(): Promise<ContainerStatus> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const status = await this.status();
      if (status.state === 'CONTAINER_EXITED') return status;
      if (Date.now() > deadline) throw new Error(`the container runs on:\n${this.log.text.slice(-2000)}`);
      await delay(50);
    }
  }

  /** @param timeout seconds between SIGTERM and SIGKILL. */
  async stop(timeout: number): Promise<void> {
    await this.#node.cri.call('StopContainer', { containerId: this.id, timeout });
  }

  async remove(): Promise<void> {
    await this.#node.cri.call('RemoveContainer', { containerId: this.id });
  }
}

/** A connection to a port of a pod. */
export class Forwarded implements Disposable {
  readonly #stream: CriStream;
  readonly output: ExpectText;
  readonly error: ExpectText;

  constructor(stream: CriStream) {
    this.#stream = stream;
    this.output = stream.channel(0);
    this.error = stream.channel(1);
  }

  send(data: string): void {
    this.#stream.send(0, data);
  }

  [Symbol.dispose](): void {
    this.#stream[Symbol.dispose]();
  }
}

/** A client that is attached to a container's input and output. */
export class Attached implements Disposable {
  readonly #stream: CriStream;

  constructor(stream: CriStream) {
    this.#stream = stream;
  }

  /** The output since the client is there. */
  get output(): ExpectText {
    return this.#stream.channel(ATTACH_CHANNEL.stdout);
  }

  /** Types a line at the guest's console and resolves with the match of a pattern in what comes after. */
  async ask(line: string, pattern: RegExp): Promise<RegExpExecArray> {
    const from = this.output.text.length;
    this.type(line);
    // A stream that ends makes what is waited for fail, and tell what there was instead.
    const late = setTimeout(() => this[Symbol.dispose](), PATIENCE_MS);
    try {
      return await this.output.until(pattern, from);
    } finally {
      clearTimeout(late);
    }
  }

  type(line: string): void {
    this.#stream.send(ATTACH_CHANNEL.stdin, `${line}\n`);
  }

  resize(columns: number, rows: number): void {
    this.#stream.send(ATTACH_CHANNEL.resize, JSON.stringify({ Width: columns, Height: rows }));
  }

  [Symbol.dispose](): void {
    this.#stream[Symbol.dispose]();
  }
}
