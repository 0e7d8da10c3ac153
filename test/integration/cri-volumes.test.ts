/**
 * Volumes of pods as kubelet hands them over: block volumes as devices, the others as mounts from its directories.
 */
import { mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { criContainerd } from '../support/cri-containerd.ts';
import { CriPod } from '../support/cri-pod.ts';
import { LoopDevice } from '../support/loop-device.ts';
import { vmImage } from '../support/vm-image.ts';

const MIB = 2 ** 20;

void t.test('a pod’s volumes are disks of its VM, and stay with it across restarts', async (t) => {
  const node = await criContainerd(t);
  const [block, snapshot] = [new LoopDevice(t, 16 * MIB), new LoopDevice(t, 8 * MIB)];
  const pod = await CriPod.run(t, node);
  const volume = (path: string): string => {
    const directory = join(pod.directory, 'volumes', path);
    mkdirSync(directory, { recursive: true });
    return directory;
  };
  const claim = volume('kubernetes.io~csi/pvc-1/mount');
  writeFileSync(join(claim, 'disk.img'), '');
  truncateSync(join(claim, 'disk.img'), 32 * MIB);
  const secret = volume('kubernetes.io~secret/keys');
  mkdirSync(join(secret, '..1'));
  writeFileSync(join(secret, '..1/key'), 'opensesame\n');
  symlinkSync('..1', join(secret, '..data'));
  symlinkSync('..data/key', join(secret, 'key'));
  const files = volume('kubernetes.io~nfs/files');
  writeFileSync(join(files, 'note'), 'from the node\n');
  const token = volume('kubernetes.io~projected/kube-api-access');
  writeFileSync(join(token, 'token'), 'not for the guest');

  const options = {
    stdin: true,
    annotations: {
      'vmshim.io/memory': '128Mi',
      ...(await vmImage()).kernelBoot,
      'vmshim.io/shared-directories': JSON.stringify([{ volume: '/files' }]),
      'vmshim.io/disks': JSON.stringify([{ name: 'scratch', empty: '10Mi' }]),
    },
    devices: [
      { containerPath: '/dev/db', hostPath: block.node, permissions: 'mrw' },
      { containerPath: '/dev/snapshot', hostPath: snapshot.node, permissions: 'mr' },
    ],
    mounts: [
      { containerPath: '/var/run/secrets/kubernetes.io/serviceaccount', hostPath: token, readonly: true },
      { containerPath: '/var/lib/data', hostPath: claim },
      { containerPath: '/files', hostPath: files },
      { containerPath: '/keys', hostPath: secret, readonly: true },
    ],
  };
  const disks = [
    'vda bytes=268435456 ro=0 serial=root',
    'vdb bytes=10485760 ro=0 serial=scratch',
    'vdc bytes=16777216 ro=0 serial=db',
    'vdd bytes=8388608 ro=1 serial=snapshot',
    // containerd puts mounts with fewer components first.
    'vde bytes=67108864 ro=1 serial=keys',
    'vdf bytes=33554432 ro=0 serial=var-lib-data',
    'vdg bytes=67108864 ro=1 serial=guest-data',
  ];
  for (const attempt of [0, 1]) {
    const vm = await pod.start({ ...options, attempt });
    await vm.log.until(/vmguest: ready/);
    using console = await vm.attach();
    await console.ask('disks', new RegExp(disks.map((line) => `disk ${line}\r?\n`).join('')));
    for (const disk of ['vdb', 'vdc', 'vdf'])
      await console.ask(
        `${attempt === 0 ? 'write' : 'verify'}-pattern ${disk} 2 /dev/${disk} 1`,
        /pattern (written|ok)\r?\n/,
      );
    await console.ask(
      'modprobe virtiofs; mkdir /run/f; mount -t virtiofs files /run/f; cat /run/f/note; echo boot >>/run/f/boots; echo "wrote $?"',
      /from the node\r?\nwrote 0/,
    );
    console.type('poweroff');
    t.match(await vm.exited(), { exitCode: 0 });
  }
  t.equal(readFileSync(join(files, 'boots'), 'utf8'), 'boot\nboot\n');
  const written = (path: string): string => readFileSync(path).toString('latin1', MIB, MIB + 32);
  t.match(written(join(claim, 'disk.img')), /^00000000 vdf /, 'what the guest wrote is in the claim');
  t.match(written(block.node), /^00000000 vdc /);
});
