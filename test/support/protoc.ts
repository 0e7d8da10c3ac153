import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import protobuf from 'protobufjs';
import 'protobufjs/ext/descriptor.js';

/** .proto files that protoc can compile in one run, and where it finds them. */
export interface ProtoSet {
  readonly includes: readonly string[];
  readonly files: readonly string[];
}

const GOPATH = '/usr/share/gocode/src';
const CONTAINERD = 'github.com/containerd';

/** containerd 1.6 and its cgroups library: Debian's golang-github-containerd-containerd-dev and what it depends on. */
export const DEBIAN_CONTAINERD: ProtoSet = {
  includes: [GOPATH, `${GOPATH}/github.com/gogo/protobuf`, '/usr/include'],
  files: [
    ...['any', 'empty', 'timestamp', 'field_mask'].map((name) => `google/protobuf/${name}.proto`),
    `${CONTAINERD}/containerd/runtime/v2/task/shim.proto`,
    `${CONTAINERD}/containerd/runtime/v2/runc/options/oci.proto`,
    `${CONTAINERD}/containerd/api/events/task.proto`,
    `${CONTAINERD}/containerd/api/services/ttrpc/events/v1/events.proto`,
    ...['containers', 'content', 'images', 'leases', 'namespaces'].map(
      (name) =>
        `${CONTAINERD}/containerd/api/services/${name}/v1/${name === 'namespaces' ? 'namespace' : name}.proto`,
    ),
    `${CONTAINERD}/containerd/api/types/descriptor.proto`,
    `${CONTAINERD}/containerd/api/types/metrics.proto`,
    `${CONTAINERD}/containerd/api/types/mount.proto`,
    `${CONTAINERD}/containerd/api/types/platform.proto`,
    `${CONTAINERD}/containerd/api/types/task/task.proto`,
    `${CONTAINERD}/cgroups/stats/v1/metrics.proto`,
    `${CONTAINERD}/cgroups/v2/stats/metrics.proto`,
  ],
};

/** Apart from the others because it imports the same gogo.proto under a second name, which protoc refuses. */
export const DEBIAN_RUNTIME_OPTIONS: ProtoSet = {
  includes: [GOPATH, '/usr/include'],
  files: [`${CONTAINERD}/containerd/pkg/runtimeoptions/v1/api.proto`],
};

const PROTO_DIR = path.join(import.meta.dirname, '../../proto');

export const OURS: ProtoSet = {
  includes: [PROTO_DIR],
  files: fs
    .readdirSync(PROTO_DIR)
    .filter((name) => name.endsWith('.proto'))
    .sort(),
};

/** What protoc itself understands of the files, names as written in them. */
export async function compile(set: ProtoSet): Promise<protobuf.Root> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'protoc-compile-'));
  try {
    const out = path.join(dir, 'descriptors');
    await protoc(set, ['--include_imports', `--descriptor_set_out=${out}`], set.files);
    const root = protobuf.Root.fromDescriptor(fs.readFileSync(out), { keepCase: true });
    root.resolveAll();
    return root;
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}

/** One encoded message of a batch. */
export interface Item {
  /** Full name, without a leading dot. */
  readonly type: string;
  readonly bytes: Uint8Array;
}

/**
 * Many messages of several types through one protoc process, by a wrapper message that repeats each type. protoc keeps
 * the items in the order of `types` and, within a type, as given; so must the caller.
 */
export class ProtocBatch implements Disposable {
  readonly #set: ProtoSet;
  readonly #types: readonly string[];
  readonly #dir: string;

  constructor(set: ProtoSet, types: readonly string[]) {
    this.#types = types;
    this.#dir = fs.mkdtempSync(path.join(os.tmpdir(), 'protoc-batch-'));
    this.#set = { includes: [...set.includes, this.#dir], files: ['batch.proto'] };
    fs.writeFileSync(
      path.join(this.#dir, 'batch.proto'),
      [
        'syntax = "proto3";',
        'package test;',
        ...set.files.map((file) => `import "${file}";`),
        'message Batch {',
        ...types.map((type, i) => `  repeated .${type} ${this.#field(i)} = ${i + 1};`),
        '}',
      ].join('\n'),
    );
  }

  /** The name that items of a type have in the batch's text. */
  fieldOf(type: string): string {
    return this.#field(this.#indexOf(type));
  }

  /** Encoded messages to protoc's text format. */
  async decode(items: readonly Item[]): Promise<string> {
    const writer = protobuf.Writer.create();
    for (const { type, bytes } of items) writer.uint32(((this.#indexOf(type) + 1) << 3) | 2).bytes(bytes);
    const text = await protoc(this.#set, ['--decode=test.Batch'], this.#set.files, writer.finish());
    return text.toString();
  }

  /** protoc's text format to encoded messages. */
  async encode(text: string): Promise<Item[]> {
    const options = ['--encode=test.Batch', '--deterministic_output'];
    const reader = protobuf.Reader.create(
      await protoc(this.#set, options, this.#set.files, Buffer.from(text)),
    );
    const items: Item[] = [];
    while (reader.pos < reader.len)
      items.push({ type: this.#types[(reader.uint32() >>> 3) - 1]!, bytes: reader.bytes() });
    return items;
  }

  [Symbol.dispose](): void {
    fs.rmSync(this.#dir, { recursive: true });
  }

  #field(index: number): string {
    return `m_${index + 1}`;
  }

  #indexOf(type: string): number {
    const index = this.#types.indexOf(type);
    if (index === -1) throw new Error(`${type} is not in this batch`);
    return index;
  }
}

async function protoc(
  set: ProtoSet,
  options: readonly string[],
  files: readonly string[],
  input: Uint8Array = new Uint8Array(),
): Promise<Buffer> {
  const args = [...set.includes.map((dir) => `-I${dir}`), ...options, ...files];
  const child = spawn('protoc', args, { stdio: 'pipe' });
  const exit = new Promise<number | null>((resolve, reject) =>
    child.once('error', reject).once('close', resolve),
  );
  child.stdin.on('error', () => {
    // protoc that fails on its arguments reads nothing; its exit status says so.
  });
  child.stdin.end(input);
  const [stdout, stderr, code] = await Promise.all([buffer(child.stdout), buffer(child.stderr), exit]);
  if (code !== 0) {
    throw new Error(
      `protoc failed (needs Debian's protobuf-compiler, libprotobuf-dev and ` +
        `golang-github-containerd-containerd-dev): ${stderr.toString()}`,
    );
  }
  return stdout;
}
