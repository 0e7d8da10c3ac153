/**
 * What a guest that has taken over its QEMU would find: a process that is nobody, has no network, nothing open but its own
 * disks, and cannot open more. And where secrets of pods are, and are not.
 */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { vmNames } from '../../src/vm/names.ts';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import { hostLocal } from '../support/cri-node-network.ts';
import { type CriContainer, CriPod } from '../support/cri-pod.ts';
import {
  confinement,
  linksOf,
  mappedFiles,
  namespaceOf,
  type OpenFile,
  openFiles,
} from '../support/process-confinement.ts';
import { filesWith, processesWith, worldReadable } from '../support/reachable-files.ts';
import { vmImage } from '../support/vm-image.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

/** Put together only here, so that no other process of this machine has it in its arguments. */
const SECRET = ['planted', 'secret', process.pid, Date.now()].join('-');
const ANNOTATED = ['annotated', process.pid, Date.now()].join('-');

void t.test('a pod’s VM is confined', async (t) => {
  const node = await criContainerd(t, {
    handlers: {
      tapped: (network, stateDir) => [
        { type: 'vm-tap', bridge: network.bridge, isGateway: true, stateDir, ipam: hostLocal(network) },
      ],
    },
  });
  const [tapped, natted] = await Promise.all([startWithSecrets(t, node), startNatted(t, node)]);
  const { directory } = node.containerd;
  const names = vmNames(join(directory, 'vms'), 'k8s.io', tapped.id);
  const pid = pidOf(vmRecord(node.containerd, tapped.id, 'k8s.io').qemu);

  await t.test('QEMU is nobody, and stays it', (t) => {
    const id = String(names.uid);
    t.strictSame(confinement(pid), {
      users: [id],
      groups: [id],
      supplementary: [],
      capabilities: ['0'],
      noNewPrivileges: ['1'],
      seccomp: ['2'],
    });
    const other = pidOf(vmRecord(node.containerd, natted.id, 'k8s.io').qemu);
    t.not(confinement(other).users[0], id, 'every VM has a user of its own');
    t.equal(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8').trim(), '900', 'as the pod’s spec says');
    t.match(
      readFileSync(`/proc/${pid}/limits`, 'utf8'),
      /^Max core file size\s+0\s/m,
      'it leaves no core file',
    );
    t.end();
  });

  await t.test('it has no network', (t) => {
    t.strictSame(linksOf(pid), ['lo']);
    t.not(namespaceOf(pid, 'net'), namespaceOf(node.containerd.pid, 'net'));
    t.end();
  });

  await t.test('it has nothing open but what it was given', (t) => {
    const known: readonly (readonly [RegExp, OpenFile['access']])[] = [
      [/^\/dev\/null$/, 'read-write'],
      [/^\/dev\/net\/tun$/, 'read-write'],
      [/^(socket|anon_inode):/, 'read-write'],
      [/^anon_inode:/, 'read'],
      [/^\/memfd:/, 'read-write'],
      // The image, of which no mount is left, and the overlay under the name that it was made with.
      [/^\/(boot|disk)\/[^/]+$|\/data\/bases\/[^/]+$/, 'read'],
      [/\/data\/pods\/[^ ]*root\.qcow2(\.new \(deleted\))?$/, 'read-write'],
      [new RegExp(`^${names.runDir}/qemu\\.log$`), 'write'],
      [new RegExp(`^${names.runDir}/guest-data\\.img$`), 'read'],
    ];
    const strange = openFiles(pid).filter(
      ({ target, access }) => !known.some(([pattern, how]) => pattern.test(target) && access === how),
    );
    t.strictSame(strange, []);
    const foreign = mappedFiles(pid).filter(
      (path) => !/^\/(usr|lib|lib64|boot|memfd:|dev\/zero)\b/.test(path),
    );
    t.strictSame(foreign, [], 'and maps nothing but programs and its memory');
    t.end();
  });

  await t.test('sockets and directories are root’s alone', (t) => {
    const mode = (path: string): string => (statSync(path).mode & 0o7777).toString(8);
    t.same(
      [
        join(directory, 'vms'),
        names.runDir,
        join(directory, 'data'),
        join(directory, 'data/vms', names.key),
      ].map(mode),
      ['700', '700', '700', '700'],
    );
    const { qmpSocket, consoleSocket, controlSocket, qemuLog, record } = names;
    t.same(
      [qmpSocket, consoleSocket, controlSocket, qemuLog, record, `${names.runDir}/guest-data.img`].map(mode),
      ['600', '600', '600', '600', '600', '600'],
    );
    t.equal(mode(`${directory}/data/vms/${names.key}/console.log`), '600');
    t.end();
  });

  await t.test('secrets are on the guest’s drive and nowhere else', (t) => {
    t.strictSame(filesWith(SECRET, directory), [`${names.runDir}/guest-data.img`]);
    t.strictSame(filesWith(SECRET, node.kubeletDir), [join(node.kubeletDir, 'secret/userdata')]);
    // containerd itself keeps annotations, and logs them when it debugs: they are no place for a secret. We do neither.
    const [vms, data] = [join(directory, 'vms'), join(directory, 'data')];
    const ours = [vms, data].flatMap((place) => filesWith(ANNOTATED, place));
    t.strictSame(ours, [`${names.runDir}/guest-data.img`]);
    const lines = node.containerd
      .log()
      .split('\n')
      .filter((line) => line.includes(ANNOTATED));
    t.strictSame(
      lines.filter((line) => !/Container config|specs\.Spec/.test(line)),
      [],
    );
    const open = [SECRET, ANNOTATED].flatMap((text) => filesWith(text, directory));
    t.strictSame(
      open.filter((path) => worldReadable(path, directory) && path !== node.containerd.logFile),
      [],
    );
    t.strictSame([SECRET, ANNOTATED].flatMap(processesWith), []);
    t.end();
  });

  await t.test('QEMU’s own network is the pod’s, not the node’s', async (t) => {
    const qemu = pidOf(vmRecord(node.containerd, natted.id, 'k8s.io').qemu);
    t.not(namespaceOf(qemu, 'net'), namespaceOf(node.containerd.pid, 'net'));
    t.strictSame(linksOf(qemu).sort(), ['eth0', 'lo'], 'it opens connections where the pod may');
    using console = await natted.attach();
    const [, port = ''] = /127\.0\.0\.1:(\d+)/.exec(await node.network.run('ss', '-ltnH')) ?? [];
    t.not(port, '', 'something listens on the node’s loopback');
    await console.ask('dhcp', /dhcp eth0 10\.0\.2\.15/);
    const [said] = await console.ask(
      `nc 10.0.2.2 ${port} </dev/null && echo "node: $((1)) reached" || echo "node: $((0)) refused"`,
      /node: \d \w+(?=\s)/,
    );
    t.equal(said, 'node: 0 refused');
  });
});

/** A VM on a TAP whose Secret, annotation and user data hold the planted text. */
async function startWithSecrets(t: Test, node: CriNode): Promise<CriContainer> {
  const volume = join(node.kubeletDir, 'secret');
  mkdirSync(volume, { recursive: true, mode: 0o700 });
  writeFileSync(join(volume, 'userdata'), `#cloud-config\npassword: ${SECRET}\n`, { mode: 0o600 });
  const pod = await CriPod.run(t, node, { name: 'tapped', handler: 'tapped' });
  const { kernelBoot } = await vmImage();
  const vm = await pod.start({
    annotations: {
      ...kernelBoot,
      'vmshim.io/memory': '128Mi',
      'vmshim.io/meta': JSON.stringify({ token: ANNOTATED }),
    },
    mounts: [{ containerPath: '/vmshim/guest-data', hostPath: volume, readonly: true }],
    resources: { oomScoreAdj: 900 },
  });
  await vm.log.until(/vmguest: ready/);
  return vm;
}

async function startNatted(t: Test, node: CriNode): Promise<CriContainer> {
  const pod = await CriPod.run(t, node, { name: 'natted' });
  const { kernelBoot } = await vmImage();
  const vm = await pod.start({
    stdin: true,
    annotations: { ...kernelBoot, 'vmshim.io/memory': '128Mi', 'vmshim.io/network': 'user' },
  });
  await vm.log.until(/vmguest: ready/);
  return vm;
}
