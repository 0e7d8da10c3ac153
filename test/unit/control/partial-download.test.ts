import { createHash } from 'node:crypto';
import { appendFileSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openImportSource } from '../../../src/control/image-source.ts';
import { openPartialDownload } from '../../../src/control/partial-download.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { loadNative } from '../../../src/host/native.ts';
import { type Behaviour, FileServer } from '../../support/file-server.ts';
import { tempDir } from '../../support/temp-dir.ts';

const CONTENT = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) >> 3));
const SHA256 = createHash('sha256').update(CONTENT).digest('hex');
const host = new LinuxHost();
const native = loadNative();

/** What `vmctl image import` of a URL does first, on one node after the other time. */
class Node {
  readonly downloads: string;
  readonly steps: string[] = [];
  readonly #tempDir: string;

  constructor(t: Test) {
    this.downloads = join(tempDir(t), 'data/downloads');
    this.#tempDir = tempDir(t);
  }

  get left(): string[] {
    return readdirSync(this.downloads);
  }

  async get(url: URL, options: { sha256?: string; signal?: AbortSignal } = {}): Promise<Buffer> {
    using files = new DisposableStack();
    const { fd, size } = await openImportSource(
      host,
      {
        source: url.href,
        sha256: options.sha256,
        tempDir: this.#tempDir,
        downloads: { native, directory: this.downloads },
        maxSize: 2 ** 30,
        tuning: { attempts: 1, firstPauseMs: 1, idleMs: 10_000 },
      },
      files,
      {
        signal: options.signal ?? new AbortController().signal,
        step: (what) => void this.steps.push(what),
        progress: () => undefined,
      },
    );
    return host.readBytes(fd, 0, size);
  }
}

const serve = (t: Test, behaviour: Behaviour): Promise<FileServer> => FileServer.start(t, CONTENT, behaviour);

void t.test('an import that ended goes on where it was, and leaves nothing', async (t) => {
  const server = await serve(t, { cutAfter: (i) => [100_000, 50_000][i], etag: () => '"1"' });
  const url = server.url('disk.img?signature=secret');
  url.username = 'me';
  url.password = 'hidden';
  const node = new Node(t);
  await t.rejects(node.get(url), { kind: 'Unavailable', message: /after 100000 bytes/ });
  t.match(node.left, [/^[0-9a-f]{32}\.json$/, /^[0-9a-f]{32}\.part$/]);
  const note = readFileSync(join(node.downloads, node.left[0] ?? ''), 'utf8');
  t.match(JSON.parse(note), { url: /\/disk\.img$/, done: 100_000, validator: '"1"' });
  t.notMatch(note, /secret|hidden/);
  // What was written and not noted may be anything after a power cut.
  appendFileSync(join(node.downloads, node.left[1] ?? ''), 'junk');
  await t.rejects(node.get(url), { kind: 'Unavailable', message: /after 150000 bytes/ });
  const got = await node.get(url, { sha256: SHA256 });
  t.ok(got.equals(CONTENT));
  t.same(server.asked, ['', 'bytes=100000-', 'bytes=150000-']);
  t.match(node.steps.at(-1), /^downloading http.*disk\.img, of which 150000 bytes are here$/);
  t.same(node.left, []);
});

void t.test('Ctrl-C keeps what is there', async (t) => {
  const server = await serve(t, { etag: () => '"1"', stallAfter: 80_000 });
  const node = new Node(t);
  const end = new AbortController();
  const got = node.get(server.url('disk.img'), { signal: end.signal });
  // Undefined until the file is there.
  const arrived = (): number | undefined => {
    if (host.inspect(node.downloads) === undefined) return undefined;
    const name = node.left.find((file) => file.endsWith('.part'));
    return name === undefined ? undefined : host.inspect(join(node.downloads, name))?.size;
  };
  while (arrived() !== 80_000) await new Promise(setImmediate);
  end.abort();
  await t.rejects(got, { kind: 'Canceled', message: /./ });
  const [note = ''] = node.left;
  t.match(JSON.parse(readFileSync(join(node.downloads, note), 'utf8')), { done: 80_000 });
});

void t.test('another file under the URL is fetched as a whole', async (t) => {
  const other = Buffer.from(CONTENT.toReversed());
  const server: FileServer = await serve(t, {
    cutAfter: (i) => [100_000][i],
    etag: (i) => {
      if (i > 0) server.content = other;
      return `"${i}"`;
    },
  });
  const node = new Node(t);
  await t.rejects(node.get(server.url('disk.img')), { kind: 'Unavailable', message: /./ });
  t.ok((await node.get(server.url('disk.img'))).equals(other));
  t.same(node.left, []);
});

void t.test('nothing is kept that nobody could go on with', async (t) => {
  const node = new Node(t);
  const unnamed = await serve(t, { cutAfter: () => 100_000 });
  await t.rejects(node.get(unnamed.url('disk.img')), { kind: 'Unavailable', message: /./ });
  t.same(node.left, [], 'the server does not tell one file from another');
  const wrong = await serve(t, { etag: () => '"1"' });
  await t.rejects(node.get(wrong.url('disk.img'), { sha256: '0'.repeat(64) }), {
    kind: 'InvalidArgument',
    message: /./,
  });
  t.same(node.left, [], 'it is another file than was asked for');
  const gone = await serve(t, {
    cutAfter: (i) => [100_000][i],
    etag: () => '"1"',
    status: (i) => [undefined, 404][i],
  });
  await t.rejects(node.get(gone.url('disk.img')), { kind: 'Unavailable', message: /./ });
  await t.rejects(node.get(gone.url('disk.img')), { kind: 'NotFound', message: /./ });
  t.same(node.left, []);
});

void t.test('one import at a time has the file of a URL', async (t) => {
  const server = await serve(t, { etag: () => '"1"' });
  const node = new Node(t);
  const deps = { host, native, directory: node.downloads };
  const url = server.url('disk.img');
  {
    using mine = openPartialDownload(deps, url);
    t.ok(mine);
    t.equal(openPartialDownload(deps, url), undefined);
    t.ok((await node.get(url)).equals(CONTENT), 'the other one downloads for itself');
    t.equal(node.left.length, 1);
  }
  t.same(node.left, []);
});

void t.test('what nobody came back to for a week goes, and a damaged note counts for nothing', async (t) => {
  const server = await serve(t, { cutAfter: (i) => [100_000, 100_000][i], etag: () => '"1"' });
  const node = new Node(t);
  await t.rejects(node.get(server.url('old.img')), { kind: 'Unavailable', message: /./ });
  const [note = '', data = ''] = node.left.map((name) => join(node.downloads, name));
  const longAgo = new Date(Date.now() - 8 * 24 * 3600_000);
  utimesSync(data, longAgo, longAgo);
  await t.rejects(node.get(server.url('disk.img')), { kind: 'Unavailable', message: /./ });
  t.notOk(host.inspect(note));
  t.notOk(host.inspect(data));
  const [mine = ''] = node.left;
  for (const text of [
    '',
    '{}',
    'null',
    '{"done":100001,"validator":"\\"1\\""}',
    '{"done":-1,"validator":"x"}',
  ]) {
    writeFileSync(join(node.downloads, mine), text);
    using partial = openPartialDownload({ host, native, directory: node.downloads }, server.url('disk.img'));
    t.equal(partial?.begun, undefined, text);
    partial?.note({ done: 100_000, validator: '"1"' });
  }
  t.ok((await node.get(server.url('disk.img'))).equals(CONTENT));
  t.equal(server.asked.at(-1), 'bytes=100000-');
  t.same(node.left, []);
});
