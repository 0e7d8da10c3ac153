/**
 * Disks beside the root disk, through real containerd: as a guest sees them, and as they lie on the node afterwards. How
 * pods have them is in cri-volumes.test.ts.
 */
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Containerd, privateContainerd } from '../support/containerd.ts';
import { type CtrRun, ctrRun, untilReady } from '../support/ctr-run.ts';
import { guest } from '../support/guest.ts';
import { ask } from '../support/guest-shell.ts';
import { LoopDevice } from '../support/loop-device.ts';
import { tempDir } from '../support/temp-dir.ts';
import type { GuestFigures } from '../../src/vm/guest-figures.ts';

const MIB = 2 ** 20;

void t.test('disks beside the root disk', async (t) => {
  const node = tempDir(t);
  const allowed = directory(node, 'allowed');
  const shimConfig = `host_disks = [${JSON.stringify(allowed)}]\n`;
  const containerd = await privateContainerd(t, { shimConfig });

  await t.test('every kind of source, on the buses that a guest has drivers for', async (t) => {
    const block = new LoopDevice(t, 32 * MIB, ['--sector-size', '4096']);
    const lun = new LoopDevice(t, 8 * MIB);
    const pvc = directory(node, 'pvc');
    makeHostileRaw(join(pvc, 'disk.img'), node, 48 * MIB);
    writeFileSync(join(allowed, 'tools.iso'), 'TOOLS'.padEnd(2 * MIB, '\0'));
    const written = directory(node, 'written');
    writeFileSync(join(written, 'note'), 'by hand\n');
    const disks = [
      { name: 'scratch', empty: '20Mi' },
      { name: 'tools', host: join(allowed, 'tools.iso'), device: 'cdrom', bus: 'scsi' },
      { name: 'db', volume: block.node },
      { name: 'lun', volume: lun.node, bus: 'scsi', serial: 'LUN.7' },
      { name: 'notes', volume: '/written', files: 'iso' },
    ];
    const flags = [
      ...['--device', block.node, '--device', lun.node],
      ...bind(pvc, '/data'),
      ...bind(makeConfigMap(node), '/etc/settings', 'ro'),
      ...bind(directory(node, 'plain'), '/plain', 'ro'),
      ...bind(written, '/written', 'ro'),
    ];
    const run = await boot(containerd, 'all', { disks, flags });
    await ask(
      run,
      'modprobe -a virtio_scsi sd_mod sr_mod isofs vfat nls_cp437 nls_ascii; echo loaded',
      /^loaded/m,
    );
    // The letters follow the places: made by the shim, block volumes, mounts, and the guest's data at the end.
    await ask(run, 'until [ -e /dev/sda -a -e /dev/sr0 ]; do sleep 0.1; done; echo there', /^there/m);
    const seen = await ask(run, 'disks', /disk vda[^]*disk sda[^]*/);
    for (const line of [
      'vda bytes=268435456 ro=0 serial=root',
      'vdb bytes=20971520 ro=0 serial=scratch',
      'vdc bytes=33554432 ro=0 serial=db',
      'vdd bytes=50331648 ro=0 serial=data',
      'vde bytes=67108864 ro=1 serial=etc-settings',
      'vdf bytes=\\d+ ro=1 serial=notes',
      'vdg bytes=67108864 ro=1 serial=guest-data',
      'sda bytes=8388608 ro=0 serial=LUN\\.7',
    ])
      t.match(seen, new RegExp(`disk ${line}`), line);
    for (const disk of ['vdb', 'vdc', 'vdd', 'sda'])
      await ask(
        run,
        `echo written-to-${disk} | dd of=/dev/${disk} bs=512 seek=8 conv=sync,fsync; echo done`,
        /^done/m,
      );
    await ask(run, 'cat /sys/block/vdc/queue/logical_block_size', /^4096/m);
    await ask(run, 'head -c 3 /dev/vdd; echo .', /^QFI\./m);
    await ask(run, 'head -c 5 /dev/sr0; echo .', /^TOOLS\./m);
    await ask(run, 'echo x >/dev/vde || echo refused', /^refused/m);
    await ask(
      run,
      'mkdir /run/d; mount -t vfat -o ro,iocharset=ascii /dev/vde /run/d && echo mounted',
      /^mounted/m,
    );
    await ask(run, 'cat /run/d/app.conf /run/d/nginx/site.conf', /colour = blue\r?\nlisten 80/);
    await ask(run, 'umount /run/d; mount -t iso9660 -o ro /dev/vdf /run/d && cat /run/d/note', /by hand/);

    await ask(
      run,
      'umount /run/d; mount -t vfat -o ro,iocharset=ascii /dev/vdg /run/d && echo config',
      /^config/m,
    );
    const told = await ask(
      run,
      'cat /run/d/openstack/latest/meta_data.json; echo; echo end',
      /"devices"[^]*^end/m,
    );
    // The place that the kernel gives the disk, by the name it has in the metadata.
    const place = await ask(run, 'readlink /sys/block/vdc', /0000:00:[^/]+(?=\/virtio)/);
    for (const [bus, address, name, serial] of [
      ['pci', place, 'db', 'db'],
      ['scsi', '1:0:1:0', 'lun', 'LUN.7'],
    ])
      t.match(
        told.replaceAll(/\s/g, ''),
        `{"type":"disk","bus":"${bus}","address":"${address}","tags":["${name}"],"serial":"${serial}"}`,
      );

    const figures = JSON.parse((await containerd.vmctl('stats', 'all', '--json')).stdout) as GuestFigures;
    const db = figures.disks.find(({ name }) => name.includes('db'));
    t.ok(db !== undefined && db.reads > 0 && db.readBytes >= 512 * db.reads, JSON.stringify(figures.disks));
    t.ok(figures.vcpus[0]!.runNs > 1e8, 'the vCPU has booted a guest');
    t.ok((figures.balloonBytes ?? 0) >= 64 * 2 ** 20, `${figures.balloonBytes}`);
    const table = (await containerd.vmctl('stats', 'all')).stdout;
    t.match(
      table,
      /^RAM that the balloon leaves .* MiB\n\nGUEST +AVAILABLE[^]*\n\nVCPU +RUN +WAIT\n0 +\d+\.\d s[^]*^DISK +READS/m,
    );
    const { total = 0, available = 0 } = figures.memory ?? {};
    t.ok(available > 2 ** 20 && total > available, `as the guest says: ${available} of ${total} bytes`);
    const status = (await containerd.vmctl('status', 'all')).stdout;
    t.match(
      status,
      /disk +db: virtio disk, 32Mi, serial db, block volume \S+ \(\/dev\/loop\d+\), cache none/,
    );
    t.match(status, /disk +tools: scsi cdrom, read-only, 2Mi, serial tools, .*tools.iso of the node/);
    t.match(status, /warning +the guest does not see the volume at \/plain: it holds no disk.img/);
    for (const [flags, sentence] of [
      [bind(pvc, '/again'), /disk \\?"again\\?" \(\\?"\/again\/disk.img\\?"\) is in use by VM \\?"all\\?"/],
      [['--device', block.node], /the block device \S+ \(\S+\) is in use by VM \\?"all\\?"/],
    ] as const)
      await refused(t, containerd, { flags }, sentence);

    await poweroff(t, run);
    t.match(readFileSync(join(pvc, 'disk.img')).toString('latin1', 4096, 4110), 'written-to-vdd');
    t.match(readFileSync(block.node).toString('latin1', 4096, 4110), 'written-to-vdc');
    t.match(readFileSync(lun.node).toString('latin1', 4096, 4110), 'written-to-sda');
  });

  await t.test('what cannot be a disk is refused with its name before QEMU starts', async (t) => {
    const pvc = directory(node, 'hostile');
    const image = join(pvc, 'disk.img');
    const loop = new LoopDevice(t, MIB);
    const flags = bind(pvc, '/data');
    const begins = String.raw`disk \\?"data\\?" \(disk.img of the volume /data\): \\?"/data/disk.img\\?" `;
    symlinkSync('/etc/passwd', image);
    await refused(t, containerd, { flags }, new RegExp(`${begins}is a symlink`));
    rmSync(image);
    execFileSync('mkfifo', [image]);
    await refused(t, containerd, { flags }, new RegExp(`${begins}is a fifo`));
    rmSync(image);
    execFileSync('mknod', [image, 'b', String(loop.number.major), String(loop.number.minor)]);
    await refused(t, containerd, { flags }, new RegExp(`${begins}is a block-device`));
    rmSync(image);
    writeFileSync(image, '');
    await refused(t, containerd, { flags }, new RegExp(`${begins}has no bytes`));
    const outside = [{ name: 'x', host: '/etc/passwd' }];
    await refused(t, containerd, { disks: outside }, /\/etc\/passwd\\?" of the node, but this node allows/);
    const missing = [{ name: 'x', volume: '/nowhere' }];
    await refused(
      t,
      containerd,
      { disks: missing },
      /names the volume \\?"\/nowhere\\?", which is not there/,
    );
    const rbd = [{ name: 'x', rbd: 'pool/image', secret: '/data' }];
    await refused(
      t,
      containerd,
      { disks: rbd, flags },
      /rbd pool\/image, but this node lets no VM open images/,
    );
  });

  await t.test('a disk that firmware cannot see otherwise is booted first', async (t) => {
    const disk = join(allowed, 'boot.raw');
    copyFileSync((await guest()).raw, disk);
    const partition = `${disk}@@1M`;
    const config = execFileSync('mtype', ['-i', partition, '::syslinux.cfg'], { encoding: 'utf8' });
    const changed = join(node, 'syslinux.cfg');
    writeFileSync(changed, config.replace(/APPEND /, 'APPEND vmguest.run="echo booted-from-sata" '));
    execFileSync('mcopy', ['-o', '-i', partition, changed, '::syslinux.cfg']);
    const disks = [{ name: 'rescue', host: disk, bus: 'sata', boot: 1 }];
    const run = await boot(containerd, 'first', { disks, diskBoot: true });
    await run.console.until('booted-from-sata');
    await poweroff(t, run);
  });
});

interface Wish {
  readonly disks?: readonly object[];
  readonly flags?: readonly string[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly diskBoot?: boolean;
}

async function boot(containerd: Containerd, id: string, wish: Wish): Promise<CtrRun> {
  return await untilReady(await create(containerd, id, wish));
}

async function create(
  containerd: Containerd,
  id: string,
  { disks, flags, annotations, diskBoot }: Wish,
): Promise<CtrRun> {
  const said = disks === undefined ? {} : { 'vmshim.io/disks': JSON.stringify(disks) };
  const options = { flags: flags ?? [], annotations: { ...annotations, ...said } };
  return await ctrRun(containerd, id, diskBoot === true ? { ...options, diskBoot } : options);
}

/** Fails the creation with a sentence, and leaves no QEMU. */
async function refused(t: Test, containerd: Containerd, wish: Wish, sentence: RegExp): Promise<void> {
  const run = await create(containerd, 'refused', wish);
  t.not(await run.exited, 0);
  t.match(run.stderr.text, sentence);
}

async function poweroff(t: Test, run: CtrRun): Promise<void> {
  run.type('poweroff');
  t.equal(await run.exited, 0);
}

function bind(source: string, destination: string, access: 'rw' | 'ro' = 'rw'): string[] {
  return ['--mount', `type=bind,src=${source},dst=${destination},options=rbind:${access}`];
}

function directory(node: string, path: string): string {
  mkdirSync(join(node, path), { recursive: true });
  return join(node, path);
}

/** What a guest may have written onto its own raw disk: a qcow2 header that names a file of the node. */
function makeHostileRaw(path: string, node: string, bytes: number): void {
  const header = join(node, 'header.qcow2');
  execFileSync('qemu-img', [
    'create',
    '-q',
    '-u',
    '-f',
    'qcow2',
    '-F',
    'raw',
    '-b',
    '/etc/passwd',
    header,
    '1G',
  ]);
  writeFileSync(path, readFileSync(header));
  truncateSync(path, bytes);
}

/** As kubelet mounts one, with an entry in a directory. */
function makeConfigMap(node: string): string {
  const volume = directory(node, 'volumes/kubernetes.io~configmap/settings');
  mkdirSync(join(volume, '..2026_11_22/nginx'), { recursive: true });
  writeFileSync(join(volume, '..2026_11_22/app.conf'), 'colour = blue\n');
  writeFileSync(join(volume, '..2026_11_22/nginx/site.conf'), 'listen 80\n');
  symlinkSync('..2026_11_22', join(volume, '..data'));
  for (const name of ['app.conf', 'nginx']) symlinkSync(`..data/${name}`, join(volume, name));
  return volume;
}
