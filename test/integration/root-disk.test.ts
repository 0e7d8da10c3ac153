/**
 * How long a pod's root disk lives, through CRI: over the pod's own directory, its name, a volume and a block volume, and
 * what garbage collection makes of it.
 */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { type CriNode, criContainerd, importGuest } from '../support/cri-containerd.ts';
import { type ContainerOptions, type CriContainer, CriPod } from '../support/cri-pod.ts';
import { LoopDevice } from '../support/loop-device.ts';
import { otherVersion } from '../support/other-version.ts';
import { tempDir } from '../support/temp-dir.ts';
import { vmImage } from '../support/vm-image.ts';

const MIB = 2 ** 20;

/** Starts a VM, does something at its console and has it power itself off. */
async function session(
  pod: CriPod,
  options: ContainerOptions,
  ...tasks: [string, RegExp][]
): Promise<CriContainer> {
  const vm = await pod.start({ stdin: true, ...options });
  await vm.log.until(/vmguest: ready/);
  using console = await vm.attach();
  for (const [line, pattern] of tasks) await console.ask(line, pattern);
  console.type('poweroff');
  await vm.exited();
  return vm;
}

const WRITE: [string, RegExp] = ['write-pattern kept 4', /pattern written/];
const VERIFY: [string, RegExp] = ['verify-pattern kept 4', /pattern ok/];

/** Disks of image files that containerd's snapshots hold. */
function imageDisks({ containerd }: CriNode): string[] {
  const snapshots = 'root/io.containerd.snapshotter.v1.overlayfs/snapshots';
  return globSync(join(containerd.directory, snapshots, '*/fs/disk/*'));
}

async function removeImage(node: CriNode): Promise<void> {
  const { name: image } = await vmImage();
  await node.cri.call('RemoveImage', { image: { image } });
}

async function withAnnotations(more: Record<string, string>): Promise<Record<string, string>> {
  return { 'vmshim.io/memory': '128Mi', ...(await vmImage()).kernelBoot, ...more };
}

interface Found {
  readonly action: string;
  readonly kind: string;
  readonly path: string;
  readonly why: string;
}

async function gc({ containerd }: CriNode, ...args: string[]): Promise<Found[]> {
  const { stdout } = await containerd.vmctl('gc', '--json', '--address', containerd.address, ...args);
  return JSON.parse(stdout) as Found[];
}

void t.test('root disks of pods', async (t) => {
  const node = await criContainerd(t);
  const { containerd } = node;
  const data = join(containerd.directory, 'data');
  const bases = (): string[] => readdirSync(join(data, 'bases'));

  await t.test('outlives its image, which is removed, collected and replaced by another', async (t) => {
    const pod = await CriPod.run(t, node);
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    const [base = ''] = bases();
    t.equal(statSync(join(data, 'bases', base)).nlink, 2, 'the base is the snapshot’s file, not a copy');
    await removeImage(node);
    {
      using console = await vm.attach();
      await console.ask(...WRITE);
      await console.ask('dd if=/dev/vda of=/dev/null bs=1M count=60 2>&1', /60\+0 records out/);
      console.type('poweroff');
    }
    await vm.exited();
    t.equal(imageDisks(node).length, 1, 'the container holds its image');
    await vm.remove();
    while (imageDisks(node).length > 0) await delay(20);
    t.equal(statSync(join(data, 'bases', base)).nlink, 1, 'the base is all that is left');
    await importGuest(node, { ...(await vmImage()), archive: await otherVersion(t) });
    const again = await pod.start({ stdin: true, attempt: 1 });
    await again.log.until(/vmguest: ready/);
    const { stdout } = await containerd.vmctl('status', again.id);
    t.match(stdout, /image is another one now .* goes on over the one it was made over/);
    using console = await again.attach();
    await console.ask(...VERIFY);
    console.type('poweroff');
    await again.exited();
    t.equal(bases().length, 1, 'a base is kept for disks, not for images');
    await removeImage(node);
    await importGuest(node);
  });

  await t.test('is there for the pod’s next sandbox, after all that was volatile is gone', async (t) => {
    const pod = await CriPod.run(t, node);
    await session(pod, {}, WRITE);
    const { uid } = pod.config.metadata;
    await pod.remove();
    rmSync(join(containerd.directory, 'vms'), { recursive: true });
    const next = await CriPod.run(t, node, { uid, attempt: 1 });
    const annotations = await withAnnotations({ 'vmshim.io/root-size': '1Gi' });
    // Another attempt than the first: its log would be the same file.
    const bytes: [string, RegExp] = ['disks', /disk vda bytes=1073741824/];
    await session(next, { annotations, attempt: 1 }, VERIFY, bytes);
  });

  await t.test('is kept by the pod’s name', async (t) => {
    const annotations = await withAnnotations({ 'vmshim.io/root-key': 'name' });
    const pod = await CriPod.run(t, node, { name: 'db-0' });
    const vm = await pod.start({ stdin: true, annotations });
    await vm.log.until(/vmguest: ready/);
    const twin = await CriPod.run(t, node, { name: 'db-0' });
    await t.rejects(twin.start({ annotations }), {
      message: /kept\/shop\/db-0\/guest\/root.qcow2" is in use by VM "db-0" \(k8s.io\/[0-9a-f]+\); one disk/,
    });
    using console = await vm.attach();
    await console.ask(...WRITE);
    const [uuid] = await console.ask('cat /sys/class/dmi/id/product_uuid', /[0-9a-f]{8}-[0-9a-f-]{27}/);
    console.type('poweroff');
    await vm.exited();
    await pod.remove();
    const isSame: [string, RegExp] = ['cat /sys/class/dmi/id/product_uuid', new RegExp(uuid)];
    await session(twin, { annotations, attempt: 1 }, VERIFY, isSame);
  });

  await t.test('is kept on a volume', async (t) => {
    const volume = tempDir(t);
    const mounts = [{ containerPath: '/vmshim/root', hostPath: volume }];
    const pod = await CriPod.run(t, node);
    await session(pod, { mounts }, WRITE);
    t.ok(existsSync(join(volume, 'root.qcow2')));
    t.same(readdirSync(join(data, 'pods', pod.config.metadata.uid, 'guest')), ['base']);
    await pod.remove();
    const next = await CriPod.run(t, node);
    await session(next, { mounts }, VERIFY);
    const disk = join(volume, 'root.qcow2');
    let attempt = 1;
    const refused = async (message: RegExp): Promise<void> => {
      await t.rejects(next.start({ mounts, attempt: attempt++ }), { message });
      rmSync(disk, { force: true });
    };
    rmSync(disk);
    symlinkSync('/etc/passwd', disk);
    await refused(/root.qcow2" is a symlink and no overlay/);
    execFileSync('mkfifo', [disk]);
    await refused(/root.qcow2" is a fifo and no overlay/);
    execFileSync('qemu-img', [
      'create',
      '-q',
      '-f',
      'qcow2',
      '-u',
      '-b',
      '/etc/passwd',
      '-F',
      'raw',
      disk,
      '1G',
    ]);
    await refused(/not an overlay this shim made/);
    const readonly = [{ containerPath: '/vmshim/root', hostPath: volume, readonly: true }];
    await t.rejects(next.start({ mounts: readonly, attempt }), { message: /mounted read-only/ });
  });

  await t.test('is a block volume', async (t) => {
    const device = new LoopDevice(t, 320 * MIB);
    const devices = [{ containerPath: '/', hostPath: device.node, permissions: 'rwm' }];
    const pod = await CriPod.run(t, node);
    const bytes = (mib: number): [string, RegExp] => ['disks', new RegExp(`disk vda bytes=${mib * MIB} `)];
    // From the device's own boot loader: what the image has is there.
    const first = await pod.start({ devices, stdin: true, annotations: { 'vmshim.io/memory': '128Mi' } });
    await first.log.until(/vmguest: ready/);
    const second = await CriPod.run(t, node);
    await t.rejects(second.start({ devices }), { message: /block volume at "\/" .* is in use: \/dev\/loop/ });
    {
      using console = await first.attach();
      for (const [line, pattern] of [bytes(319), WRITE]) await console.ask(line, pattern);
      console.type('poweroff');
    }
    await first.exited();
    device.grow(400 * MIB);
    await session(second, { devices, attempt: 1 }, bytes(399), VERIFY);

    const archive = await otherVersion(t);
    await removeImage(node);
    await importGuest(node, { ...(await vmImage()), archive });
    await t.rejects(pod.start({ devices, attempt: 1 }), {
      message:
        /filled from another image .* earlier image back or set vmshim.io\/root-fill to "never" .* new volume/,
    });
    const annotations = await withAnnotations({ 'vmshim.io/root-fill': 'never' });
    await session(pod, { devices, attempt: 2, annotations }, VERIFY);
    await removeImage(node);
    await importGuest(node);

    const used = new LoopDevice(t, 320 * MIB);
    execFileSync('mkfs.ext4', ['-q', '-F', used.node]);
    const foreign = [{ containerPath: '/dev/root', hostPath: used.node, permissions: 'rwm' }];
    await t.rejects(pod.start({ devices: foreign, attempt: 3 }), { message: /holds data that is not ours/ });
    const small = new LoopDevice(t, 256 * MIB);
    const tight = [{ containerPath: '/dev/root', hostPath: small.node, permissions: 'rwm' }];
    await t.rejects(pod.start({ devices: tight, attempt: 4 }), {
      message: /too few for .* give a larger volume/,
    });
  });

  await t.test('garbage collection takes what nobody can need, and nothing else', async (t) => {
    const find = (found: Found[], part: string): Found | undefined =>
      found.find(({ path }) => path.includes(part));
    const pod = await CriPod.run(t, node);
    const { uid } = pod.config.metadata;
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    // Pods of before: their kubelet directories are there.
    const grace = ['--grace', '0s'];
    t.match(find(await gc(node, ...grace), uid), { action: 'keep', why: 'a VM has it open' });
    rmSync(pod.directory, { recursive: true });
    await vm.stop(60);
    await vm.remove();
    t.match(find(await gc(node, ...grace), uid), {
      action: 'keep',
      why: /container k8s.io\/.* is of its pod/,
    });
    const nobody = await containerd.vmctl('gc', '--json', '--address', '/nowhere.sock', ...grace);
    t.match(find(JSON.parse(nobody.stdout) as Found[], uid), { action: 'keep', why: /could not be asked/ });
    await pod.remove();
    const hidden = `${node.kubeletDir}/hidden`;
    execFileSync('mv', [join(node.kubeletDir, 'pods'), hidden]);
    t.match(find(await gc(node, ...grace), uid), { action: 'keep', why: /there is no .*\/pods/ });
    execFileSync('mv', [hidden, join(node.kubeletDir, 'pods')]);
    mkdirSync(join(node.kubeletDir, 'pods', uid));
    t.match(find(await gc(node, ...grace), uid), { action: 'keep', why: /kubelet has a directory/ });
    rmSync(join(node.kubeletDir, 'pods', uid), { recursive: true });
    t.match(find(await gc(node), uid), { action: 'keep', why: /within the grace of 60 min/ });
    const dry = await gc(node, '--dry-run', ...grace);
    t.match(find(dry, uid), {
      action: 'remove',
      why: 'kubelet, containerd and our records know no such pod',
    });
    t.ok(existsSync(join(data, 'pods', uid)), 'a dry run changes nothing');
    const done = await gc(node, ...grace);
    t.match(find(done, uid), { action: 'remove', kind: 'pod disks' });
    t.notOk(existsSync(join(data, 'pods', uid)));
    t.match(find(done, '/bases/'), { action: 'keep', why: 'a root disk is an overlay over it' });
    t.same(readdirSync(join(data, 'trash')), []);

    writeFileSync(join(data, 'bases', 'half.1.new'), '');
    rmSync(join(node.kubeletDir, 'pods'), { recursive: true });
    mkdirSync(join(node.kubeletDir, 'pods'));
    await gc(node, ...grace);
    t.same(readdirSync(join(data, 'pods')), []);
    t.equal(bases().length, 1, 'the disk that is kept by name has its base');
    rmSync(join(data, 'kept'), { recursive: true });
    await gc(node, ...grace);
    t.same(bases(), []);
  });

  await t.test('garbage collection runs while VMs come', async (t) => {
    const over = new AbortController();
    const collecting = (async () => {
      while (!over.signal.aborted) await gc(node, '--grace', '0s');
    })();
    try {
      for (const name of ['a', 'b']) {
        const pod = await CriPod.run(t, node, { name });
        const vm = await pod.create({ stdin: true });
        // All that knows of the pod is containerd's container and our record.
        rmSync(pod.directory, { recursive: true });
        mkdirSync(join(node.kubeletDir, 'pods'), { recursive: true });
        await vm.start();
        await vm.log.until(/vmguest: ready/);
        t.ok(existsSync(join(data, 'pods', pod.config.metadata.uid, 'guest/root.qcow2')), name);
        await vm.stop(60);
      }
    } finally {
      over.abort();
      await collecting;
    }
  });
});
