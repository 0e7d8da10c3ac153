import protobuf from 'protobufjs';
import t from 'tap';
import * as metrics from '#wire-metrics';
import * as sandbox from '#wire-sandbox';
import * as services from '#wire-services';
import * as wire from '#wire';
import { SampleMaker, block, jsName, toSample, toText, type Sample } from '../support/proto-samples.ts';
import {
  DEBIAN_CONTAINERD,
  DEBIAN_RUNTIME_OPTIONS,
  OURS,
  ProtocBatch,
  compile,
  type Item,
  type ProtoSet,
} from '../support/protoc.ts';

// Our .proto files restate contracts that containerd owns. Here Debian's copy of containerd's files is the judge: first
// of what our files declare, then of every byte that our generated code writes and reads.

/** Messages that containerd 1.6 does not have; test/unit/proto/newer-messages.test.ts holds their numbers. */
const NEWER =
  /^(containerd\.runtime\.|runtime\.v1\.|containerd\.types\.Runtime|io\.containerd\.cgroups\.v2\.(PSI|NetworkStat)|vmshim\.)/;

/** Fields that were added to messages of containerd 1.6 since. */
const NEWER_FIELDS: Readonly<Record<string, readonly number[]>> = {
  'runtimeoptions.v1.Options': [3],
  'io.containerd.cgroups.v2.Metrics': [9],
  'io.containerd.cgroups.v2.CPUStat': [7, 8, 9],
  'io.containerd.cgroups.v2.MemoryStat': [36, 37, 38, 39, 40, 41, 42],
  'io.containerd.cgroups.v2.MemoryEvents': [6],
  'io.containerd.cgroups.v2.IOStat': [2],
  'io.containerd.cgroups.v2.HugeTlbStat': [4],
};

/** Messages of Debian's that the shim has no use for. */
const LEFT_OUT =
  /^(google\.protobuf\.(?!Any$|Timestamp$|Empty$|FieldMask$)|gogoproto\.|containerd\.plugin\.|containerd\.runc\.v1\.(Checkpoint)?Options$|containerd\.v1\.types\.Process$)/;

/** containerd's name of one of our messages or the other way round: only the task API's package differs. */
const ourName = (name: string): string => name.replace(/^(\.?)containerd\.task\.v2\./, '$1containerd.task.');

const bare = (object: protobuf.ReflectionObject): string => object.fullName.replace(/^\./, '');

function typesOf(namespace: protobuf.NamespaceBase): protobuf.Type[] {
  return namespace.nestedArray.flatMap((nested) => [
    ...(nested instanceof protobuf.Type ? [nested] : []),
    ...(nested instanceof protobuf.Namespace ? typesOf(nested) : []),
  ]);
}

const describeField = (field: protobuf.Field): Record<string, unknown> => ({
  number: field.id,
  name: field.name,
  type: ourName(field.resolvedType?.fullName ?? field.type),
  label:
    field instanceof protobuf.MapField ? `map from ${field.keyType}` : field.repeated ? 'repeated' : 'single',
  packed: field.packed,
  enum: field.resolvedType instanceof protobuf.Enum ? field.resolvedType.values : undefined,
});

interface Codec {
  encode(message: Sample): { finish(): Uint8Array };
  decode(bytes: Uint8Array): Record<string, unknown>;
}

function codecOf(name: string): Codec {
  return name
    .split('.')
    .reduce<unknown>((scope, part) => (scope as Record<string, unknown>)[part], moduleOf(name)) as Codec;
}

function moduleOf(name: string): object {
  if (name.startsWith('io.')) return metrics;
  if (/^(containerd\.runtime\.sandbox|runtime)\./.test(name)) return sandbox;
  return /^(containerd\.services\.(?!events\.)|containerd\.types\.Descriptor$|google\.protobuf\.FieldMask$)/.test(
    name,
  )
    ? services
    : wire;
}

/** Of containerd's own services we state what vmctl calls. */
const isStated = (name: string): boolean =>
  !/^containerd\.services\.(?!events\.)/.test(name) || ours.lookup(name) !== null;

/** Each of their messages that is also ours. */
async function judged(set: ProtoSet): Promise<protobuf.Type[]> {
  return typesOf(await compile(set)).filter((type) => !LEFT_OUT.test(bare(type)) && isStated(bare(type)));
}

const ours = await compile(OURS);

const theirs = [
  { set: DEBIAN_CONTAINERD, types: await judged(DEBIAN_CONTAINERD) },
  { set: DEBIAN_RUNTIME_OPTIONS, types: await judged(DEBIAN_RUNTIME_OPTIONS) },
];

void t.test(
  'declares every field of containerd’s messages with the same number, name, type and label',
  (t) => {
    for (const type of theirs.flatMap(({ types }) => types)) {
      const mine = ours.lookupType(ourName(bare(type)));
      const newer = NEWER_FIELDS[bare(type)] ?? [];
      t.same(
        mine.fieldsArray.filter(({ id }) => !newer.includes(id)).map(describeField),
        type.fieldsArray.map(describeField),
        bare(type),
      );
      for (const id of newer)
        t.type(mine.fieldsById[id], protobuf.Field, `${bare(type)} has the newer field ${id}`);
    }
    t.end();
  },
);

void t.test('leaves no message of ours unjudged', (t) => {
  const known = new Set(theirs.flatMap(({ types }) => types.map((type) => ourName(bare(type)))));
  for (const type of typesOf(ours)) {
    const name = bare(type);
    t.not(known.has(name), NEWER.test(name), `${name} is either containerd 1.6’s or newer`);
  }
  t.ok(known.size > 60, `${known.size} messages are judged`);
  t.end();
});

void t.test('declares the services with the same methods', (t) => {
  const methods = (service: protobuf.Service): string[][] =>
    service.methodsArray.map((method) => [
      method.name,
      ourName(method.resolvedRequestType!.fullName),
      ourName(method.resolvedResponseType!.fullName),
      method.responseStream === true ? 'stream' : 'single',
    ]);
  const root = theirs[0]!.types[0]!.root;
  for (const name of ['containerd.task.v2.Task', 'containerd.services.events.ttrpc.v1.Events']) {
    t.same(methods(ours.lookupService(ourName(name))), methods(root.lookupService(name)), name);
  }
  for (const name of ['content', 'images', 'leases', 'containers', 'namespaces']) {
    const path = `containerd.services.${name}.v1.${name.charAt(0).toUpperCase()}${name.slice(1)}`;
    const stated = ours.lookupService(path);
    const known = methods(root.lookupService(path)).filter(([method]) => method! in stated.methods);
    t.same(methods(stated), known, path);
  }
  t.end();
});

const newer = typesOf(ours).filter((type) => NEWER.test(bare(type)));
for (const { title, set, types } of [
  { title: 'containerd', ...theirs[0]! },
  { title: 'runtime options', ...theirs[1]! },
  // Here protoc can only judge the generated code, not the declarations.
  { title: 'newer messages, from our own declarations', set: OURS, types: newer },
]) {
  const names = types.map(bare);
  const maker = new SampleMaker(20_26);
  // From nothing set to everything set, nested messages included.
  const samples = types.flatMap((type) =>
    [0, 0.3, 0.6, 0.8, 1, 1, 1].map((density) => ({ type, sample: maker.make(type, density) })),
  );
  const encode = ({ type, sample }: (typeof samples)[number]): Item => ({
    type: bare(type),
    bytes: codecOf(ourName(bare(type)))
      .encode(sample)
      .finish(),
  });

  void t.test(`${title}: what we encode, protoc reads as meant`, async (t) => {
    using batch = new ProtocBatch(set, names);
    const text = await batch.decode(samples.map(encode));
    const expected = samples.flatMap(({ type, sample }) =>
      block(batch.fieldOf(bare(type)), toText(type, sample)),
    );
    t.equal(text, `${expected.join('\n')}\n`);
  });

  void t.test(`${title}: what protoc encodes, we read as meant and write back byte for byte`, async (t) => {
    using batch = new ProtocBatch(set, names);
    const text = samples.flatMap(({ type, sample }) =>
      block(batch.fieldOf(bare(type)), toText(type, sample)),
    );
    const items = await batch.encode(text.join('\n'));
    t.equal(items.length, samples.length);
    for (const [i, { type, sample }] of samples.entries()) {
      const item = items[i]!;
      const message = codecOf(ourName(bare(type))).decode(item.bytes);
      t.strictSame(toSample(type, message), sample, bare(type));
      t.same(
        codecOf(ourName(bare(type)))
          .encode(sortMaps(type, sample))
          .finish(),
        item.bytes,
        `${bare(type)}, bytes`,
      );
    }
  });
}

/** protoc sorts the keys of a map when asked for one fixed encoding; ours keep the order in which they were set. */
function sortMaps(type: protobuf.Type, sample: Sample): Sample {
  const sorted = { ...sample };
  for (const field of type.fieldsArray) {
    const name = jsName(field);
    const value = sample[name];
    const inner = field.resolvedType;
    if (field.map) {
      const entries = Object.entries(value as Sample);
      sorted[name] = Object.fromEntries(
        entries.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
      );
    } else if (inner instanceof protobuf.Type && value !== undefined) {
      sorted[name] = field.repeated
        ? (value as readonly Sample[]).map((item) => sortMaps(inner, item))
        : sortMaps(inner, value as Sample);
    }
  }
  return sorted;
}
