import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { download } from '../../../src/control/download.ts';
import { followRedirect, parseImageUrl, showUrl } from '../../../src/control/image-url.ts';
import { SpaceLimit } from '../../../src/control/space-limit.ts';
import { type Behaviour, FileServer } from '../../support/file-server.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { WatchedHost } from '../storage/support/watched-host.ts';

/** No test but that of a stall is to meet the last: the process may be kept waiting itself. */
const TUNING = { attempts: 3, firstPauseMs: 1, idleMs: 600_000 };
const CONTENT = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) >> 3));
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const never = new AbortController().signal;

interface Got {
  readonly bytes: Buffer;
  readonly sha256: string;
  readonly retries: readonly string[];
  readonly progress: readonly (number | undefined)[][];
}

async function get(
  t: Test,
  server: FileServer,
  options: {
    readonly maxSize?: number;
    readonly signal?: AbortSignal;
    readonly url?: URL;
    readonly onStart?: () => void;
    readonly idleMs?: number;
  } = {},
): Promise<Got> {
  const host = new WatchedHost();
  const dir = tempDir(t);
  using file = host.temporaryFile(dir, 0o600);
  const retries: string[] = [];
  const progress: (number | undefined)[][] = [];
  const result = await download(host, options.url ?? server.url('disk.img?signature=secret'), file.fd, {
    signal: options.signal ?? never,
    limit: new SpaceLimit(host, dir, options.maxSize ?? 2 ** 30),
    onProgress: (done, total) => {
      options.onStart?.();
      progress.push([done, total]);
    },
    onRetry: (why) => {
      options.onStart?.();
      retries.push(why);
    },
    tuning: { ...TUNING, idleMs: options.idleMs ?? TUNING.idleMs },
  });
  const bytes = readFileSync(`/proc/self/fd/${file.fd}`);
  if (bytes.length !== result.bytes) throw new Error('size');
  return { bytes, sha256: result.sha256, retries, progress };
}

const serve = (t: Test, behaviour: Behaviour = {}): Promise<FileServer> =>
  FileServer.start(t, CONTENT, behaviour);

void t.test('a download is the file, with its size known or not', async (t) => {
  for (const chunked of [false, true]) {
    const got = await get(t, await serve(t, { chunked }));
    t.ok(got.bytes.equals(CONTENT));
    t.equal(got.sha256, sha256(CONTENT));
    t.same(got.progress.at(-1), [CONTENT.length, chunked ? undefined : CONTENT.length]);
    t.same(got.retries, []);
  }
});

void t.test('a transfer that breaks anywhere goes on there, and the checksum is the file’s', async (t) => {
  const property = fc.asyncProperty(
    fc.array(fc.nat({ max: 150_000 }), { minLength: 1, maxLength: 6 }),
    fc.boolean(),
    async (cuts, ranges) => {
      const server = await serve(t, { cutAfter: (i) => cuts[i], etag: () => '"1"', ranges });
      const got = await get(t, server).catch((error: unknown) => error as Error);
      if (got instanceof Error) return /3 times in a row/.test(got.message);
      return got.bytes.equals(CONTENT) && got.sha256 === sha256(CONTENT);
    },
  );
  await fc.assert(property, { numRuns: 25, seed: 4 });
  const server = await serve(t, { cutAfter: (i) => [100_000, 50_000][i], etag: () => '"1"' });
  const got = await get(t, server);
  t.ok(got.bytes.equals(CONTENT));
  t.same(server.asked, ['', 'bytes=100000-', 'bytes=150000-']);
  t.match(got.retries, [
    /^http:\/\/127\.0\.0\.1:\d+\/disk\.img: .* after 100000 bytes$/,
    /after 150000 bytes/,
  ]);
  t.notMatch(got.retries.join(), /secret/);
});

void t.test('what cannot be gone on with is fetched anew', async (t) => {
  for (const etag of [() => undefined, () => 'W/"weak"', (i: number) => `"${i}"`]) {
    const server = await serve(t, { cutAfter: (i) => [100_000][i], etag });
    t.ok((await get(t, server)).bytes.equals(CONTENT));
    const promised = etag(0)?.startsWith('"') === true;
    t.same(server.asked, ['', promised ? 'bytes=100000-' : '']);
  }
  const shorter = CONTENT.subarray(50_000, 100_000);
  const server: FileServer = await serve(t, {
    cutAfter: (i) => [200_000][i],
    etag: (i) => {
      if (i > 0) server.content = shorter;
      return `"${i}"`;
    },
  });
  t.ok(
    (await get(t, server)).bytes.equals(shorter),
    'nothing of the earlier file is left behind the new one',
  );
});

void t.test('a server that says 416 is asked for everything', async (t) => {
  const server = await serve(t, {
    cutAfter: (i) => [100_000][i],
    etag: () => '"1"',
    status: (i) => [undefined, 416][i],
  });
  t.ok((await get(t, server)).bytes.equals(CONTENT));
  t.same(server.asked, ['', 'bytes=100000-', '']);
});

void t.test('errors that pass are tried again, others are not', async (t) => {
  const busy = await serve(t, { status: (i) => [503, 429][i] });
  t.equal((await get(t, busy)).retries.length, 2);
  const cases: [Behaviour, string, RegExp, number][] = [
    [{ status: () => 404 }, 'NotFound', /disk\.img answers 404 Not Found; check the URL/, 1],
    [{ status: () => 401 }, 'InvalidArgument', /answers 401/, 1],
    [{ status: () => 500 }, 'Unavailable', /answers 500.* 3 times in a row; try again later/, 3],
    [{ stallAfter: 1000, ranges: false }, 'Unavailable', /nothing came for 0\.3 s/, 3 + 1],
    [{ lie: 1000, ranges: false }, 'Unavailable', /3 times in a row/, 3 + 1],
    [{ redirect: (i) => `/again${i}` }, 'FailedPrecondition', /redirects more than 10 times/, 11],
    [{ redirect: () => 'file:///etc/shadow' }, 'FailedPrecondition', /redirects to a file: address/, 1],
    [{ redirect: () => 'http://[' }, 'FailedPrecondition', /redirects to nowhere/, 1],
  ];
  for (const [behaviour, kind, message, asked] of cases) {
    const server = await serve(t, behaviour);
    const tuning = behaviour.stallAfter === undefined ? {} : { idleMs: 300 };
    await t.rejects(get(t, server, tuning), { kind, message }, String(message));
    t.ok(server.asked.length <= asked, `${server.asked.length} requests`);
  }
});

void t.test('a longer body than announced is cut or refused, never taken', async (t) => {
  const server = await serve(t, { lie: -1000 });
  const got = await get(t, server).catch(() => undefined);
  t.ok(got === undefined || got.bytes.length === CONTENT.length - 1000);
});

void t.test('the limit holds by what is announced and by what comes', async (t) => {
  for (const chunked of [false, true]) {
    const server = await serve(t, { chunked });
    const message = /larger than --max-size 100000/;
    await t.rejects(get(t, server, { maxSize: 100_000 }), { kind: 'ResourceExhausted', message });
    t.equal(server.asked.length, 1);
  }
});

void t.test('Ctrl-C ends a transfer that stalls, and a pause', async (t) => {
  for (const behaviour of [{ stallAfter: 10 }, { status: () => 503 }]) {
    const controller = new AbortController();
    const server = await serve(t, behaviour);
    const canceled = get(t, server, { signal: controller.signal, onStart: () => controller.abort() });
    await t.rejects(canceled, { kind: 'Canceled', message: /canceled/ });
    t.equal(server.asked.length, 1);
  }
});

void t.test('credentials stay with their host and out of messages', async (t) => {
  const target = await serve(t);
  const server = await serve(t, { redirect: () => target.url('x').href });
  const url = server.url('disk');
  url.username = 'user';
  url.password = 'secret';
  await get(t, server, { url });
  t.match(server.authorizations, [/^Basic /]);
  t.same(target.authorizations, [undefined]);

  t.equal(showUrl(new URL('https://u:p@h.example:8443/a/b?sig=1#x')), 'https://h.example:8443/a/b');
  t.equal(followRedirect(new URL('http://u:p@h/a'), '/b').href, 'http://u:p@h/b');
  t.throws(() => followRedirect(new URL('https://h/a'), 'http://h/b'), /from https to http/);
});

void t.test('what is a URL', (t) => {
  t.equal(parseImageUrl('HTTPS://h/x')?.href, 'https://h/x');
  for (const file of ['x.qcow2', './http:/x', '/a/b', 'a:b']) t.equal(parseImageUrl(file), undefined, file);
  for (const text of ['ftp://h/x', 'file:///etc/passwd', 'http://', 'https://[/'])
    t.throws(() => parseImageUrl(text), { kind: 'InvalidArgument', message: /http/ }, text);
  t.end();
});
