import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { vmshim } from '#wire';
import {
  CONTROL_SERVICE,
  type PowerAsk,
  type PowerStatus,
  type VmStatus,
} from '../../src/control/control-service.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { bootId, readIdentity } from '../../src/host/process-identity.ts';
import type { MethodDefinition } from '../../src/ttrpc/method.ts';
import { TtrpcServer } from '../../src/ttrpc/server.ts';
import { type PodName, RECORD_FORMAT } from '../../src/vm/record.ts';
import type { Teardown } from './temp-dir.ts';

const wire = vmshim.control.v1;

export interface StandInOptions {
  /** 20 hex digits. */
  readonly key: string;
  readonly podUid: string;
  /** The pod's name, where its record tells it. */
  readonly pod?: PodName;
  /** Whether it knows Watch, as shims of this version do. */
  readonly watches?: boolean;
  /** Of the process that is to be its shim and QEMU; this one else. */
  readonly pid?: number;
}

/** A VM's shim at the wire: its record, and its control socket served by our own ttrpc server. */
export class StandInShim {
  readonly runDir: string;
  /** Every Power request, the repeated ones too. */
  readonly asked: PowerAsk[] = [];
  status: VmStatus;
  /** What becomes of a Power request; it may set `status`. */
  power: (ask: PowerAsk) => Promise<PowerStatus> | PowerStatus = () => {
    throw new Error('no power in this test');
  };
  readonly #options: StandInOptions;
  #server: TtrpcServer | undefined;
  #listener: Server | undefined;
  #changed = Promise.withResolvers<undefined>();

  constructor(t: Teardown, stateDir: string, options: StandInOptions) {
    this.#options = options;
    this.runDir = join(stateDir, options.key);
    this.status = {
      id: `id-${options.key}`,
      name: 'vm-1',
      state: 'running',
      powerState: 'on',
      memoryBytes: 64 << 20,
    };
    t.teardown(() => this.stop());
  }

  /** Writes the record, then serves. */
  async start(record: object = {}): Promise<void> {
    mkdirSync(this.runDir, { recursive: true });
    this.writeRecord(record);
    await this.serve();
  }

  writeRecord(more: object = {}): void {
    const host = new LinuxHost();
    const { key, podUid, pod, pid = process.pid } = this.#options;
    const identity = { pid, startTime: readIdentity(host, pid)?.startTime ?? 0 };
    const record = {
      ...{ format: RECORD_FORMAT, id: `id-${key}`, namespace: 'k8s.io', name: 'vm-1', podUid, pod, key },
      ...{
        bundle: '/b',
        bootId: bootId(host),
        createdAt: Date.now(),
        runDir: this.runDir,
        cgroup: `/none/${key}`,
      },
      ...{ qemu: identity, shim: identity, nics: [], logDir: '/l', rootDisk: undefined },
      ...more,
    };
    const path = join(this.runDir, 'record.json');
    writeFileSync(`${path}.new`, JSON.stringify(record));
    renameSync(`${path}.new`, path);
  }

  async serve(): Promise<void> {
    const server = new TtrpcServer();
    server.addService(CONTROL_SERVICE, this.#methods());
    const listener = createServer();
    server.serve(listener);
    const path = join(this.runDir, 'control.sock');
    rmSync(path, { force: true });
    await new Promise<void>((resolve) => void listener.listen(path, resolve));
    this.#server = server;
    this.#listener = listener;
  }

  /** The shim dies; its VM's directory stays. */
  async die(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.#listener?.close();
    await server?.close({ graceMs: 0 });
  }

  async stop(): Promise<void> {
    await this.die();
    rmSync(this.runDir, { recursive: true, force: true });
  }

  /** Changes the status and tells those who watch. */
  set(status: Partial<VmStatus>): void {
    this.status = { ...this.status, ...status };
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve(undefined);
  }

  #methods(): Record<string, MethodDefinition> {
    const methods: Record<string, MethodDefinition> = {
      Status: { kind: 'unary', handle: () => wire.StatusResponse.encode(this.status).finish() },
      Power: {
        kind: 'unary',
        handle: async (request) => {
          const ask = wire.PowerRequest.decode(request);
          this.asked.push(ask);
          return wire.PowerResponse.encode({ status: await this.power(ask) }).finish();
        },
      },
    };
    if (this.#options.watches === false) return methods;
    return {
      ...methods,
      Watch: {
        kind: 'stream',
        handle: async (_request, channel, { signal }) => {
          const gone = new Promise<void>((resolve) => {
            signal.addEventListener('abort', () => resolve(), { once: true });
          });
          while (!signal.aborted) {
            const changed = this.#changed.promise;
            await channel.send(wire.StatusResponse.encode(this.status).finish());
            await Promise.race([changed, gone]);
          }
          return undefined;
        },
      },
    };
  }
}
