import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { generateProto } from '../../../scripts/generate-proto.ts';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'generate-proto-'));
t.teardown(() => fs.rmSync(dir, { recursive: true }));
const outDir = path.join(dir, 'gen');

const write = (name: string, messageName: string): void =>
  fs.writeFileSync(
    path.join(dir, name),
    `syntax = "proto3"; package p; message ${messageName} { int64 first_field = 1; }`,
  );
const read = (): Record<string, string> =>
  Object.fromEntries(
    fs
      .readdirSync(outDir)
      .sort()
      .map((name) => [name, fs.readFileSync(path.join(outDir, name), 'utf8')]),
  );

void t.test('writes once, the same from the same inputs, and again when they change', async (t) => {
  write('a.proto', 'Example');
  write('metrics_a.proto', 'Statistics');
  write('sandbox.proto', 'Box');
  write('services_a.proto', 'Service');
  t.equal(await generateProto(dir, outDir), true);
  const first = read();
  const modules = ['metrics', 'sandbox', 'services', 'wire'].flatMap((name) => [
    `${name}.d.ts`,
    `${name}.js`,
  ]);
  t.same(Object.keys(first), ['.inputs.sha256', ...modules]);
  t.match(first['wire.d.ts'], /firstField\?: \(number\|null\)/);

  t.equal(await generateProto(dir, outDir), false, 'up to date');

  fs.rmSync(path.join(outDir, 'metrics.d.ts'));
  t.equal(await generateProto(dir, outDir), true, 'a missing file is made again');
  t.strictSame(read(), first);

  write('a.proto', 'Changed');
  t.equal(await generateProto(dir, outDir), true, 'a changed input');
  const { p } = (await import(pathToFileURL(path.join(outDir, 'wire.js')).href)) as {
    p: { Changed: { encode(message: object): { finish(): Uint8Array } } };
  };
  t.same(Buffer.from(p.Changed.encode({ firstField: 2 }).finish()), Buffer.from([8, 2]));
});

void t.test('a mistake in a .proto file leaves the old output in place', async (t) => {
  const before = read();
  fs.writeFileSync(path.join(dir, 'a.proto'), 'syntax = "proto3"; message {');
  await t.rejects(generateProto(dir, outDir), /illegal/);
  t.strictSame(read(), before);
});
