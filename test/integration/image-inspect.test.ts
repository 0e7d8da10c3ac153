import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import t from 'tap';
import { privateContainerd } from '../support/containerd.ts';
import { writeImage } from '../support/cri-images.ts';
import { FOREIGN_FORMATS, HOSTILE_QCOW2, makeQcow2, makeRaw } from '../support/hostile-images.ts';
import { tempDir } from '../support/temp-dir.ts';
import { vmctl } from '../support/vm-image.ts';

void t.test('vmctl image inspect', async (t) => {
  const containerd = await privateContainerd(t);
  const dir = tempDir(t);
  const inspect = async (...args: string[]) => {
    const address = ['--address', containerd.address, '--namespace', 'default'];
    const { exitCode, stdout, stderr } = await execa(vmctl, ['image', 'inspect', ...args, ...address], {
      reject: false,
      stdin: 'ignore',
    });
    return { exitCode, stdout, stderr };
  };
  const list = (...args: string[]) =>
    execa(vmctl, ['image', 'list', ...args, '--address', containerd.address, '--namespace', 'default'], {
      stdin: 'ignore',
    });
  const json = async (source: string): Promise<Record<string, unknown>> =>
    JSON.parse((await inspect(source, '--json')).stdout) as Record<string, unknown>;

  await t.test('files: what they are, whether a VM boots from them, what an import does', async (t) => {
    const path = join(dir, 'disk');
    makeQcow2(path);
    t.match(await inspect(path), {
      exitCode: 0,
      stdout:
        /^image +\S+disk\nformat +qcow2\nvirtual size +64\.0 MiB \(67108864 bytes\)\nfile size .*\nimport +as it is\nboots +yes$/,
    });
    makeRaw(path);
    t.match(await json(path), { format: 'raw', virtualSize: 2 ** 20, accepted: true, import: /from raw/ });
    writeFileSync(path, 'no disk at all');
    t.match(await json(path), { format: 'raw', accepted: false, refusal: /boot sector/, import: 'refused' });
    for (const index of [0, 1, 6]) {
      HOSTILE_QCOW2[index]!.make(path);
      const found = await json(path);
      t.match(found, {
        format: 'qcow2',
        accepted: false,
        refusal: HOSTILE_QCOW2[index]!.says,
        import: 'refused',
      });
      t.equal('backingFile' in found, index < 2);
    }
    for (const { what, make } of FOREIGN_FORMATS.filter(({ what }) => /^(vmdk|vhdx|gzip)$/.test(what))) {
      make(path);
      const packed = what === 'gzip';
      t.match(await json(path), {
        accepted: false,
        import: packed ? 'unpacked first' : new RegExp(`from ${what}`),
      });
    }
    t.match(await inspect(join(dir, 'none/x')), { exitCode: 3, stderr: /none\/x/ });
    t.match(await inspect(), { exitCode: 2 });
  });

  await t.test('an image that was imported, with its kernel', async (t) => {
    const [disk, kernel] = [join(dir, 'qcow2'), join(dir, 'kernel')];
    makeQcow2(disk);
    const image = Buffer.alloc(2000, 1);
    image.writeUInt16LE(0xaa55, 0x1fe);
    image.write('HdrS', 0x202);
    writeFileSync(kernel, image);
    for (const compress of ['none', 'gzip', 'zstd']) {
      const options = ['--address', containerd.address, '--namespace', 'default', '--compress', compress];
      await execa(vmctl, [
        'image',
        'import',
        disk,
        '--name',
        'x/y:1',
        '--kernel',
        kernel,
        '--cmdline',
        'quiet',
        ...options,
      ]);
      t.match(await json('x/y:1'), {
        ...{ disk: '/disk/disk.qcow2', format: 'qcow2', virtualSize: 64 * 2 ** 20, accepted: true },
        ...{ kernel: '/boot/vmlinuz', cmdline: 'quiet', manifest: /^sha256:/, layerBytes: Number },
      });
      t.match(await list('--json'), {
        stdout: new RegExp(`"name": "docker\\.io/x/y:1",[^]*"disk": "/disk/disk\\.qcow2",[^]*"pinned": true`),
      });
    }
  });

  await t.test('images of others, by the rules of a VM’s start', async (t) => {
    const raw = join(dir, 'raw');
    const vmdk = join(dir, 'vmdk');
    makeRaw(raw);
    FOREIGN_FORMATS[0]!.make(vmdk);
    const cases: [string, Record<string, Buffer>, Record<string, unknown>][] = [
      [
        'a containerDisk',
        { 'disk/downloaded': readFileSync(raw) },
        { accepted: true, format: 'raw', disk: '/disk/downloaded' },
      ],
      ['leftovers', { 'disk/x.img': readFileSync(raw), 'disk/.git': Buffer.from('x') }, { accepted: true }],
      [
        'another format',
        { 'disk/x.vmdk': readFileSync(vmdk) },
        { accepted: false, format: 'vmdk', refusal: /convert it/ },
      ],
      [
        'two disks',
        { 'disk/a': Buffer.from('1'), 'disk/b': Buffer.from('2') },
        { accepted: false, refusal: /holds 2 entries/ },
      ],
      ['no disk', { 'bin/sh': Buffer.from('x') }, { accepted: false, refusal: /no file in \/disk/ }],
    ];
    for (const [what, files, expected] of cases) {
      const archive = join(dir, 'a/archive.tar');
      mkdirSync(dirname(archive), { recursive: true });
      await writeImage(archive, { name: 'example.test/other:1', files, entrypoint: ['vm'] });
      await containerd.ctr('images', 'import', '--no-unpack', archive);
      t.match(await json('example.test/other:1'), expected, what);
    }
    t.match(await list(), {
      stdout:
        /^IMAGE +FORMAT +SIZE +STORED +PINNED +MANIFEST\ndocker\.io\/x\/y:1 +qcow2 +64Mi +0\.0 MiB +yes +[0-9a-f]{12}$/,
    });
    const disk = { 'disk/downloaded': readFileSync(raw) };
    const archive = join(dir, 'a/archive.tar');
    await writeImage(archive, { name: 'example.test/other:1', files: disk, entrypoint: ['vm'] });
    await containerd.ctr('images', 'import', '--no-unpack', archive);
    t.match(await list(), { stdout: /^example\.test\/other:1 +raw +1Mi +1\.0 MiB +no +[0-9a-f]{12}$/m });
    t.match(await inspect('example.test/absent:1'), {
      exitCode: 3,
      stderr: /namespace "default" has no image example\.test\/absent:1; "ctr -n default images ls" lists/,
    });
  });
});
