/**
 * Disks that become images of a real containerd, by file and by HTTP, and boot. The node is made once: it serves `ctr`
 * and pods.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  globSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { execa } from 'execa';
import t from 'tap';
import { criContainerd } from '../support/cri-containerd.ts';
import { CriPod } from '../support/cri-pod.ts';
import { ctrRun } from '../support/ctr-run.ts';
import { FileServer } from '../support/file-server.ts';
import { guest } from '../support/guest.ts';
import { tempDir } from '../support/temp-dir.ts';
import { vmctl } from '../support/vm-image.ts';

void t.test('vmctl image import', async (t) => {
  const { qcow2, raw, kernel, initrd, cmdline } = await guest();
  const node = await criContainerd(t);
  const { containerd } = node;
  const dir = tempDir(t);
  const work = tempDir(t);
  const run = (...args: string[]) =>
    execa(vmctl, ['image', 'import', ...args, '--address', containerd.address, '--temp-dir', work], {
      reject: false,
      all: true,
      stdin: 'ignore',
    });
  const imported = async (...args: string[]): Promise<string> => {
    const { exitCode, all, stdout } = await run(...args);
    if (exitCode !== 0) throw new Error(all);
    return stdout;
  };
  const blobs = async (namespace: string): Promise<string[]> => {
    const { stdout } = await containerd.ctr('-n', namespace, 'content', 'ls', '-q');
    return stdout.split('\n').filter((line) => line !== '');
  };

  await t.test('disks of every kind boot with ctr run', async (t) => {
    const convert = async (format: string, name: string, ...options: string[]): Promise<string> => {
      const to = join(dir, name);
      await execa('qemu-img', ['convert', '-f', 'qcow2', '-O', format, ...options, qcow2, to]);
      return to;
    };
    const packed = async (program: string, file: string, suffix: string): Promise<string> => {
      await execa(program, ['-1', '-k', file]);
      return `${file}${suffix}`;
    };
    const image = join(dir, 'guest.img');
    copyFileSync(raw, image);
    // What only root may read reaches the program that converts, which is nobody.
    chmodSync(image, 0o600);
    const sources: [string, string, RegExp][] = [
      ['qcow2', qcow2, /qcow2 disk of [\d.]+ GiB in [\d.]+ GiB; namespace default/],
      ['raw', image, /converted from raw/],
      ['vmdk', await convert('vmdk', 'guest.vmdk', '-o', 'subformat=streamOptimized'), /from vmdk/],
      ['gz', await packed('gzip', image, '.gz'), /from raw/],
      ['xz', await packed('xz', await convert('qcow2', 'guest.qcow2'), '.xz'), /GiB; namespace/],
      ['zst', await packed('zstd', await convert('vhdx', 'guest.vhdx'), '.zst'), /from vhdx/],
    ];
    const boot = async ([name, source, says]: (typeof sources)[number]): Promise<void> => {
      const ref = `example.test/${name}:1`;
      t.match(await imported(source, '--name', ref, '--namespace', 'default'), says, name);
      const vm = await ctrRun(containerd, `import-${name}`, { image: ref });
      await vm.console.until('vmguest: ready');
      vm.type('poweroff');
      t.equal(await vm.exited, 0, name);
    };
    // Two at a time, as the smallest machines have two processors.
    const queue = sources.values();
    await Promise.all(
      [1, 2].map(async () => {
        for (const source of queue) await boot(source);
      }),
    );
    t.same(readdirSync(work), []);

    await t.test('the disk in the image is the disk', async (t) => {
      for (const [format, ...options] of [
        ['vdi'],
        ['vpc'],
        ['vpc', '-o', 'subformat=fixed'],
        ['vmdk'],
      ] as const) {
        const source = await convert(format, `same-${format}`, ...options);
        await imported(source, '--name', 'example.test/same:1', '--namespace', 'default');
        const disk = await diskOf(containerd.address, 'example.test/same:1', tempDir(t));
        await execa('qemu-img', ['compare', '-f', 'qcow2', '-F', 'qcow2', disk, qcow2]);
        await execa('qemu-img', ['check', disk]);
      }
    });
  });

  await t.test('a pod runs what CRI has never pulled, and kubelet leaves it alone', async (t) => {
    const args = ['--kernel', kernel, '--initrd', initrd, '--cmdline', cmdline, '--compress', 'zstd'];
    await imported(qcow2, '--name', 'example.test/pod:1', ...args);
    const pod = await CriPod.run(t, node);
    const vm = await pod.create({
      image: 'example.test/pod:1',
      annotations: {
        'vmshim.io/memory': '128Mi',
        'vmshim.io/kernel': '/boot/vmlinuz',
        'vmshim.io/initrd': '/boot/initrd.img',
        'vmshim.io/cmdline': cmdline,
      },
    });
    await vm.start();
    await vm.log.until(/vmguest: ready/);
    await vm.stop(60);
    const { stdout } = await containerd.ctr('-n', 'k8s.io', 'images', 'ls', 'name==example.test/pod:1');
    for (const label of ['image=managed', 'pinned=pinned']) t.match(stdout, `io.cri-containerd.${label}`);
  });

  await t.test('packing and importing a disk make one image', async (t) => {
    const archive = join(dir, 'packed.tar');
    await execa(vmctl, ['image', 'pack', qcow2, '--name', 'example.test/packed:1', '--output', archive]);
    await containerd.ctr('-n', 'one', 'images', 'import', '--no-unpack', archive);
    await imported(qcow2, '--name', 'example.test/imported:1', '--namespace', 'one');
    const { stdout } = await containerd.ctr('-n', 'one', 'images', 'ls');
    const [packed, same] = [...stdout.matchAll(/sha256:[0-9a-f]{64}/g)].map(([digest]) => digest);
    t.equal(same, packed, 'two names of one manifest');
    // Beside it, ctr stores the archive's index, which is garbage from then on.
    await containerd.ctr('-n', 'one', 'images', 'rm', '--sync', 'example.test/packed:1');
    t.equal((await blobs('one')).length, 3, 'the name that is left keeps manifest, configuration and layer');
    await containerd.ctr('-n', 'one', 'images', 'rm', '--sync', 'example.test/imported:1');
    t.same(await blobs('one'), []);
  });

  await t.test('by HTTP, over broken connections, with its checksum', async (t) => {
    const content = readFileSync(qcow2);
    const sum = createHash('sha256').update(content).digest('hex');
    const server = await FileServer.start(t, content, {
      cutAfter: (i) => [content.length >> 2, content.length >> 2][i],
      etag: () => '"1"',
    });
    const { stdout, stderr } = await run(
      ...[server.url('Guest_12.qcow2').href, '--checksum', `sha256:${sum}`, '--namespace', 'two'],
    );
    t.match(stdout, /^docker\.io\/library\/guest-12:latest: qcow2 disk/);
    t.match(
      stderr,
      /downloading http:.*Guest_12\.qcow2\ntrying again: .*\ntrying again: .*\nstoring docker\.io/,
    );
    t.equal(server.asked.length, 3);

    const before = await blobs('two');
    const wrong = await run(
      server.url('x').href,
      '--checksum',
      `sha256:${'0'.repeat(64)}`,
      '--namespace',
      'two',
    );
    t.equal(wrong.exitCode, 1);
    t.match(wrong.stderr, new RegExp(`has the checksum sha256:${sum}, not sha256:0000`));
    t.same(await blobs('two'), before);
  });

  await t.test('a download that was ended goes on with the next import of its URL', async (t) => {
    const content = readFileSync(qcow2);
    const half = content.length >> 1;
    const behaviour = { etag: () => '"1"', stallAfter: (i: number) => (i === 0 ? half : undefined) };
    const server = await FileServer.start(t, content, behaviour);
    const args = ['image', 'import', server.url('Guest.qcow2').href, '--name', 'example.test/resumed:1'];
    const bring = () =>
      execa(vmctl, [...args, '--address', containerd.address, '--namespace', 'default'], {
        env: containerd.environment(),
        stdin: 'ignore',
      });
    const first = bring();
    const downloads = join(containerd.directory, 'data/downloads');
    const arrived = (): number =>
      globSync(`${downloads}/*.part`).reduce((sum, path) => sum + statSync(path).size, 0);
    // Nothing else tells from outside how far a download is.
    while (arrived() < half) await delay(20);
    first.kill('SIGINT');
    await t.rejects(first);
    t.equal(readdirSync(downloads).length, 2);
    t.match((await bring()).stderr, new RegExp(`of which ${half} bytes are here`));
    t.same(server.asked, ['', `bytes=${half}-`]);
    t.same(readdirSync(downloads), []);
    const disk = await diskOf(containerd.address, 'example.test/resumed:1', tempDir(t));
    t.ok(readFileSync(disk).equals(content));
  });

  await t.test('what is refused leaves nothing', async (t) => {
    const evil = join(dir, 'evil');
    const before = await blobs('k8s.io');
    const refused = async (args: string[], exitCode: number, says: RegExp): Promise<void> => {
      const result = await run(...args);
      t.equal(result.exitCode, exitCode, result.all);
      t.match(result.stderr, says);
    };
    await execa('qemu-img', [
      'create',
      '-q',
      '-u',
      '-f',
      'qcow2',
      '-b',
      '/etc/passwd',
      '-F',
      'raw',
      evil,
      '1M',
    ]);
    await refused([evil], 1, /backing file "\/etc\/passwd"/);
    writeFileSync(evil, 'no disk\n');
    await refused([evil], 1, /neither a qcow2 image nor a raw disk/);
    writeFileSync(evil, gzipSync(Buffer.alloc(8 * 2 ** 20)));
    await refused([evil, '--max-size', '1Mi'], 1, /larger than --max-size 1Mi/);
    await refused([join(dir, 'none')], 3, /none/);
    await refused([], 2, /exactly one file or URL/);
    await refused([qcow2, '--checksum', 'md5:00'], 2, /is no SHA-256/);
    await refused([qcow2, '--name', 'a b'], 1, /image name/);
    t.same(await blobs('k8s.io'), before);
    t.same(readdirSync(work), []);
    t.notMatch((await containerd.ctr('-n', 'k8s.io', 'leases', 'ls')).stdout, /vmctl-/);
  });

  await t.test('Ctrl-C in the midst leaves nothing', async (t) => {
    const server = await FileServer.start(t, readFileSync(qcow2), { stallAfter: 100_000 });
    const child = execa(
      vmctl,
      ['image', 'import', server.url('slow').href, '--address', containerd.address, '--temp-dir', work],
      { reject: false, stdin: 'ignore' },
    );
    await new Promise<void>((resolve) => child.stderr.once('data', () => resolve()));
    child.kill('SIGINT');
    const result = await child;
    t.equal(result.exitCode, 1);
    t.match(result.stderr, /canceled/);
    t.same(readdirSync(work), []);
  });
});

/** The one file of an image's one layer, as containerd has it. */
async function diskOf(address: string, ref: string, into: string): Promise<string> {
  const content = async (...args: string[]): Promise<Buffer> => {
    const { stdout } = await execa('ctr', ['--address', address, ...args], { encoding: 'buffer' });
    return Buffer.from(stdout);
  };
  const list = (await content('images', 'ls', `name==${ref}`)).toString();
  const digest = /sha256:[0-9a-f]{64}/.exec(list)?.[0] ?? '';
  const manifest = JSON.parse((await content('content', 'get', digest)).toString()) as {
    layers: { digest: string }[];
  };
  const layer = await content('content', 'get', manifest.layers[0]!.digest);
  await execa('tar', ['-xf', '-', '-C', into], { input: layer });
  await execa('sha256sum', ['-c', '--quiet', 'disk.sha256'], { cwd: into });
  return join(into, 'disk/disk.qcow2');
}
