import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import t from 'tap';
import { ContainerdClient } from '../../src/control/containerd-client.ts';
import { listContainers, listNamespaces } from '../../src/control/containerd-containers.ts';
import { readBlob, readSmallBlob, writeBlob } from '../../src/control/containerd-content.ts';
import { findImage, putImage } from '../../src/control/containerd-images.ts';
import { withLease } from '../../src/control/containerd-lease.ts';
import { privateContainerd } from '../support/containerd.ts';
import { busyboxImage, writeImage } from '../support/cri-images.ts';
import { tempDir } from '../support/temp-dir.ts';

const signal = new AbortController().signal;

void t.test('containerd’s API as commands use it', async (t) => {
  const containerd = await privateContainerd(t);
  using client = new ContainerdClient({ address: containerd.address, namespace: 'default' });

  await t.test('containers with their labels, and namespaces', async (t) => {
    t.same(await listContainers(client, { signal }), []);
    const archive = join(containerd.directory, 'busybox.tar');
    await writeImage(archive, busyboxImage('example.test/busybox:1'));
    await containerd.ctr('images', 'import', archive);
    await containerd.ctr('containers', 'create', '--label', 'a=b', 'example.test/busybox:1', 'one');
    t.match(await listContainers(client, { signal }), [
      {
        ...{ id: 'one', image: 'example.test/busybox:1', runtime: 'io.containerd.runc.v2' },
        ...{ snapshotter: 'overlayfs', snapshotKey: 'one', labels: { a: 'b' } },
      },
    ]);
    t.same(await listNamespaces(client, { signal }), ['default']);
    using other = new ContainerdClient({ address: containerd.address, namespace: 'nobody' });
    t.same(await listContainers(other, { signal }), []);
    await containerd.ctr('containers', 'delete', 'one');
  });

  await t.test('a blob goes in and comes back, whole and in part, and twice is once', async (t) => {
    const blob = randomBytes(9 * 2 ** 20 + 17);
    const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`;
    const pieces = [blob.subarray(0, 5), blob.subarray(5, 5 + 3 * 2 ** 20), blob.subarray(5 + 3 * 2 ** 20)];
    await withLease(client, signal, async (lease) => {
      const stored = await writeBlob(client, pieces, () => ({ x: '1' }), { signal, lease });
      t.same(stored, { digest, size: blob.length });
      t.match((await containerd.ctr('content', 'ls')).stdout, new RegExp(`${digest}.*x=1`));
      t.same(await writeBlob(client, [blob], () => ({ y: '2' }), { signal, lease }), stored);
      t.match((await containerd.ctr('content', 'ls')).stdout, new RegExp(`${digest}.*(x=1,y=2|y=2,x=1)`));

      const parts: Buffer[] = [];
      for await (const part of readBlob(client, digest, { offset: 4, length: 2_000_000 }, { signal }))
        parts.push(part);
      t.ok(Buffer.concat(parts).equals(blob.subarray(4, 2_000_004)));
      t.ok((await readSmallBlob(client, digest, blob.length, { signal })).equals(blob));
      await t.rejects(readSmallBlob(client, digest, 100, { signal }), {
        kind: 'InvalidArgument',
        message: /larger than 100 bytes/,
      });
    });
    await containerd.ctr('images', 'rm', '--sync', 'example.test/busybox:1');
    t.equal(
      (await containerd.ctr('content', 'ls', '-q')).stdout,
      '',
      'the lease has ended, so it is garbage',
    );
  });

  await t.test('an image’s name is made once and moved later', async (t) => {
    await withLease(client, signal, async (lease) => {
      const options = { signal, lease };
      const mediaType = 'application/vnd.oci.image.manifest.v1+json';
      t.equal(await findImage(client, 'x/y:1', options), undefined);
      for (const text of ['{"a":1}', '{"b":2}']) {
        const blob = await writeBlob(client, [Buffer.from(text)], () => ({}), options);
        const target = { mediaType, ...blob };
        await putImage(client, { name: 'x/y:1', target, labels: { [text.charAt(2)]: '1' } }, options);
        t.same(await findImage(client, 'x/y:1', options), target);
      }
      t.match((await containerd.ctr('images', 'ls')).stdout, /a=1,b=1|b=1,a=1/, 'labels are added');
    });
    await containerd.ctr('images', 'rm', '--sync', 'x/y:1');
  });

  await t.test('a blob that breaks off leaves nothing', async (t) => {
    const controller = new AbortController();
    function* endless(): Generator<Buffer> {
      for (let count = 0; ; count++) {
        if (count === 20) controller.abort();
        yield Buffer.alloc(2 ** 20, count);
      }
    }
    const canceled = writeBlob(client, endless(), () => ({}), { signal: controller.signal });
    await t.rejects(canceled, { kind: 'Canceled', message: /canceled/ });
    function* broken(): Generator<Buffer> {
      yield Buffer.alloc(100);
      throw new Error('the disk is on fire');
    }
    await t.rejects(
      writeBlob(client, broken(), () => ({}), { signal }),
      { message: 'the disk is on fire' },
    );
    t.notMatch((await containerd.ctr('content', 'active')).stdout, /vmctl-/);
    t.equal((await containerd.ctr('content', 'ls', '-q')).stdout, '');
  });

  await t.test('containerd’s end in the midst of a blob is an error, not a wait', async (t) => {
    async function* source(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(2 ** 20);
      await containerd.kill();
      for (;;) yield Buffer.alloc(2 ** 20);
    }
    await t.rejects(
      writeBlob(client, source(), () => ({}), { signal }),
      { kind: 'Unavailable', message: /does not answer/ },
    );
    await containerd.start();
  });
});

void t.test('nobody listens', async (t) => {
  const address = join(tempDir(t), 'c.sock');
  using client = new ContainerdClient({ address, namespace: 'default' });
  await t.rejects(listContainers(client, { signal }), {
    kind: 'Unavailable',
    message: /containerd does not answer at .*c\.sock; start it, or name its socket with --address/,
  });
  await t.rejects(listNamespaces(client, { signal: AbortSignal.abort() }), {
    kind: 'Canceled',
    message: /canceled/,
  });
});
