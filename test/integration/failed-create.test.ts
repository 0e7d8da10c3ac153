import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { loadNative } from '../../src/host/native.ts';
import { type Containerd, privateContainerd, type RunOptions } from '../support/containerd.ts';
import { ctrRun } from '../support/ctr-run.ts';
import { leaks } from '../support/leaks.ts';
import { shimConfig } from '../support/shim-config.ts';
import { ShimClient } from '../support/shim-client.ts';

/** A Create that must fail, and the whole sentence that `ctr run` has to show for it. */
interface Refusal extends RunOptions {
  readonly what: string;
  readonly says: RegExp;
}

/** Makes files below containerd's own directory, which goes with the test. */
class Workshop {
  readonly #containerd: Containerd;
  #made = 0;

  constructor(containerd: Containerd) {
    this.#containerd = containerd;
  }

  path(name: string): string {
    return join(this.#containerd.directory, `${this.#made++}-${name}`);
  }

  /** A root file system for `ctr run --rootfs`; `fill` gets the path of its `/disk`. */
  rootfs(fill: (disk: string) => void): RunOptions {
    const root = this.path('rootfs');
    mkdirSync(join(root, 'disk'), { recursive: true });
    fill(join(root, 'disk'));
    return { image: root, flags: ['--rootfs'] };
  }

  /** A configuration file of the shim, named by the runtime option. */
  config(settings: Readonly<Record<string, string>>, after = ''): RunOptions {
    return { flags: shimConfig(this.#containerd, `config-${this.#made++}`, settings, after) };
  }

  /** A program that is QEMU when asked for its version, and else this script. */
  qemu(script: string): string {
    const path = this.path('qemu-system');
    const real = '/usr/bin/qemu-system-x86_64';
    writeFileSync(
      path,
      `#!/bin/sh\ncase "$*" in -version | "-machine help") exec ${real} "$@" ;; esac\n${script}\n`,
    );
    chmodSync(path, 0o755);
    return path;
  }
}

const qcow2 = (...args: string[]): Buffer =>
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...args]);

function badImages(shop: Workshop): Refusal[] {
  const needs = 'an image for a VM has exactly one qcow2 or raw file in /disk';
  const root = shop.rootfs(() => undefined).image ?? '';
  execFileSync('rmdir', [join(root, 'disk')]);
  return [
    {
      what: 'no /disk',
      image: root,
      flags: ['--rootfs'],
      says: new RegExp(`no /disk directory.*; ${needs}`),
    },
    {
      what: 'two disks',
      ...shop.rootfs((disk) => ['a.img', 'b.img'].forEach((name) => writeFileSync(join(disk, name), 'x'))),
      says: new RegExp(`/disk holds 2 entries \\("a\\.img", "b\\.img"\\); ${needs}`),
    },
    {
      what: 'a corrupt qcow2',
      ...shop.rootfs((disk) => {
        qcow2(join(disk, 'a.qcow2'), '64M');
        const image = readFileSync(join(disk, 'a.qcow2'));
        image.fill(0xee, 20, 24);
        writeFileSync(join(disk, 'a.qcow2'), image);
      }),
      says: /"\/disk\/a\.qcow2" is refused: its cluster_bits is 4008636142, outside 9 to 21; .*qemu-img check/,
    },
    {
      what: 'a backing file',
      ...shop.rootfs((disk) => qcow2('-u', '-b', '/etc/shadow', '-F', 'raw', join(disk, 'a.qcow2'), '64M')),
      says: /"\/disk\/a\.qcow2" is refused: it has a backing file "\/etc\/shadow".*qemu-img convert/,
    },
    {
      what: 'a data file',
      ...shop.rootfs((disk) => {
        qcow2('-o', `data_file=${disk}/../data.raw`, join(disk, 'a.qcow2'), '64M');
      }),
      says: /"\/disk\/a\.qcow2" is refused: .*external data file.*qemu-img convert/,
    },
    {
      what: 'a symlink',
      ...shop.rootfs((disk) => symlinkSync('/etc/shadow', join(disk, 'a.img'))),
      says: /"\/disk\/a\.img" in the image is a symbolic link.*; put a regular file there/,
    },
    {
      what: 'a file that is no disk',
      ...shop.rootfs((disk) => writeFileSync(join(disk, 'README.md'), '# Read me\n'.repeat(100))),
      says: /"\/disk\/README\.md" is refused: it is neither a qcow2 image nor a raw disk with a boot sector/,
    },
    {
      what: 'no such kernel',
      annotations: { 'vmshim.io/kernel': '/boot/none' },
      says: /annotation vmshim\.io\/kernel: the image has no "\/boot\/none"; name a file that is in it/,
    },
  ];
}

function badRequests(shop: Workshop): Refusal[] {
  return [
    {
      what: 'an unknown annotation',
      annotations: { 'vmshim.io/memroy': '1Gi' },
      says: /unknown annotation "vmshim\.io\/memroy"; did you mean "vmshim\.io\/memory"\?/,
    },
    {
      what: 'a wrong value',
      annotations: { 'vmshim.io/memory': 'lots' },
      says: /annotation vmshim\.io\/memory is "lots"; give a Kubernetes quantity of bytes, such as "2Gi"/,
    },
    {
      what: 'more memory than the node has',
      annotations: { 'vmshim.io/memory': '900Gi' },
      says: /memory 900\.0 GiB is more than the [\d.]+ GiB this node has; ask for less/,
    },
    {
      what: 'a CPU model that QEMU does not know',
      annotations: { 'vmshim.io/cpu-model': 'Abacus' },
      says: /QEMU did not start \(exit status 1\): unable to find CPU model 'Abacus'/,
    },
    {
      what: 'a config file with an unknown key',
      ...shop.config({}, '\nqmeu = "/x"\n'),
      says: /config-\d+\.toml:5: unknown key "qmeu"; did you mean "qemu"\?/,
    },
    {
      what: 'no config file where one is named',
      flags: ['--runtime-config-path', '/nonexistent/vmshim.toml'],
      says: /the runtime option ConfigPath names a config file that does not serve: cannot read \/nonexistent\/vmshim\.toml: it does not exist \(ENOENT\); correct it/,
    },
  ];
}

function badNodes(shop: Workshop): Refusal[] {
  const file = shop.path('file');
  writeFileSync(file, '');
  return [
    {
      what: 'no QEMU',
      ...shop.config({ qemu: '/nonexistent' }),
      says: /the program \/nonexistent of config key "qemu" cannot be used: it does not exist; install .*or set "qemu"/,
    },
    {
      what: 'a QEMU that refuses to start',
      ...shop.config({ qemu: shop.qemu('echo "qemu-system: the moon is in the way" >&2; exit 1') }),
      says: /QEMU did not start \(exit status 1\): .*the moon is in the way/,
    },
    {
      what: 'a QEMU that is killed as it starts',
      ...shop.config({ qemu: shop.qemu('kill -SEGV $$') }),
      says: /QEMU did not start \(signal 11\)/,
    },
    {
      what: 'a program that is no QEMU',
      ...shop.config({ qemu: '/bin/true' }),
      says: /the program \/bin\/true of config key "qemu" cannot be used: it prints no QEMU version/,
    },
    {
      what: 'a data_dir that is a file',
      ...shop.config({ data_dir: file }),
      says: /config key "data_dir" is ".*-file", which cannot be used: .*; name a directory on a writable file system/,
    },
    {
      what: 'a data_dir where nothing can be made',
      ...shop.config({ data_dir: '/proc/vmshim' }),
      says: /config key "data_dir" is "\/proc\/vmshim", which cannot be used: .*; name a directory/,
    },
    {
      what: 'a state_dir where nothing can be made',
      ...shop.config({ state_dir: '/proc/vmshim' }),
      says: /config key "state_dir" is "\/proc\/vmshim", which cannot be used: .*; name a directory/,
    },
  ];
}

void t.test('a Create that fails says why in one sentence and leaves nothing', async (t) => {
  const containerd = await privateContainerd(t);
  const shop = new Workshop(containerd);
  const refusals = [...badImages(shop), ...badRequests(shop), ...badNodes(shop)];
  for (const [index, { what, says, ...options }] of refusals.entries()) {
    await t.test(what, async (t) => {
      const run = await ctrRun(containerd, `refused-${index}`, options);
      t.equal(await run.exited, 1);
      t.match(run.stderr.text, says);
      t.match(
        run.stderr.text,
        /^ctr: failed to (create shim task|start shim): [^\n]*\n(: exit status 1: unknown\n)?\n*$/,
        'one line',
      );
      t.equal(run.console.text, '');
      t.strictSame(await leaks(containerd.directory), []);
    });
  }

  await t.test('a read-only root file system', async (t) => {
    const { image = '', flags = [] } = shop.rootfs((disk) => qcow2(join(disk, 'a.qcow2'), '64M'));
    const native = loadNative();
    const [MS_RDONLY, MS_REMOUNT, MS_BIND, MNT_DETACH] = [1, 32, 4096, 2];
    native.mount(image, image, 'none', MS_BIND, '');
    try {
      native.mount(image, image, 'none', MS_BIND | MS_REMOUNT | MS_RDONLY, '');
      const run = await ctrRun(containerd, 'read-only', { image, flags });
      t.equal(await run.exited, 1);
      t.match(
        run.stderr.text,
        /the root file system of container "read-only" is read-only, but .*; give the container a writable one/,
      );
    } finally {
      native.umount(image, MNT_DETACH);
    }
    t.strictSame(await leaks(containerd.directory), []);
  });

  await t.test('the same id works once the reason is gone', async (t) => {
    const run = await ctrRun(containerd, 'refused-0', { annotations: { 'vmshim.io/memory': '96Mi' } });
    await run.console.until('vmguest: ready');
    run.type('poweroff');
    t.equal(await run.exited, 0);
  });
});

void t.test('a fifo that is not there fails Create after QEMU was started, and all is undone', async (t) => {
  const shims = await ShimClient.make(t);
  const shim = await shims.shim('fifo');
  const stdout = join(shims.directory, 'no-fifo');
  await t.rejects(shim.task.create({ id: 'fifo', bundle: shim.bundle, stdout }), {
    message: new RegExp(`stdout "${stdout}" does not exist: the client must make a fifo there`),
  });
  t.strictSame(
    new LinuxHost().listDir(join(shims.directory, 'vms')).filter((name) => /^[0-9a-f]{20}$/.test(name)),
    [],
  );
  await shims.end(shim);
});
