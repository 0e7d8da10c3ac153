/**
 * A pod's VM on a node that has everything: KVM, vhost-net, cgroup v2. The rest of the network's and of CRI's tests run
 * there as they are.
 */
import { globSync, readdirSync, readFileSync, readlinkSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import t, { type Test } from 'tap';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import { hostLocal } from '../support/cri-node-network.ts';
import { type Attached, type CriContainer, CriPod } from '../support/cri-pod.ts';
import { tempDir } from '../support/temp-dir.ts';
import { vhostWorkers } from '../support/vhost-workers.ts';
import { vmImage } from '../support/vm-image.ts';

const MIB = 2 ** 20;
const GRACE = 60;
/** Enough to see that everything arrives; what it takes to send says little of a real machine's speed. */
const SENT_MIB = 8;
const VHOST = '/dev/vhost-net';
const ANSWERED = /[1-9]\d* packets received/;

/** What `vmctl status --json` says, as far as we ask. */
interface Status {
  readonly qemuPid: number;
  readonly accel: string;
  readonly accelReason: string;
  readonly network: string;
  readonly warnings: readonly string[];
}

void t.test('pods on KVM, vhost-net and cgroup v2', async (t) => {
  const node = await criContainerd(t, {
    vmPlugins: (network, stateDir) => [
      { type: 'vm-tap', bridge: network.bridge, isGateway: true, stateDir, ipam: hostLocal(network) },
    ],
  });

  let withVhost = 0;
  await t.test('a VM of two vCPUs', async (t) => {
    const pod = await CriPod.run(t, node);
    const vm = await startVm(pod);
    const ready = await vm.log.until(/vmguest: ready .*cpus=(\d+)\s/);
    t.equal(ready[1], '2');
    const status = await vmStatus(node, vm);
    const { qemuPid } = status;

    await t.test('accel "auto" is KVM, with the CPU as it is', (t) => {
      t.match(status, { accel: 'kvm', accelReason: 'KVM works on this host', warnings: [] });
      const args = readFileSync(`/proc/${qemuPid}/cmdline`, 'utf8').split('\0');
      t.equal(args[args.indexOf('-cpu') + 1], 'host,vmx=off,svm=off');
      t.ok(
        openFiles(qemuPid).some((path) => path.includes('kvm-vcpu')),
        'QEMU has a vCPU of KVM',
      );
      t.end();
    });

    await t.test(
      'the guest’s frames go through vhost-net, a descriptor and a worker per queue',
      async (t) => {
        t.match(status.network, /2 queues, vhost-net$/);
        t.equal(openFiles(qemuPid).filter((path) => path === VHOST).length, 2);
        const workers = vhostWorkers(qemuPid);
        t.equal(workers.length, 2, 'one worker per queue');

        using console = await vm.attach();
        await takeAddress(console, await pod.addresses());
        const tap = /on (\S+) \(/.exec(status.network)?.[1] ?? '';
        const before = { frames: await frames(node, tap), turns: turns(workers) };
        const [answered] = await console.ask('ping -c 20 -i 0.1 -W 20 10.88.0.1', ANSWERED);
        const after = { frames: await frames(node, tap), turns: turns(workers) };
        t.ok(after.frames.received >= before.frames.received + 20, 'the TAP counts what the guest sends');
        t.ok(after.frames.sent >= before.frames.sent + Number.parseInt(answered), 'and what it gets');
        // How often they slept between depends on how busy the node is.
        t.ok(after.turns > before.turns, 'the workers have run for it');
        withVhost = await throughput(t, node, console);
      },
    );

    await t.test('QEMU, its threads and its vhost workers are in the pod’s cgroup', async (t) => {
      const cgroup = `${pod.config.linux?.cgroupParent ?? ''}/${vm.id}`;
      const members = [
        ...readdirSync(`/proc/${qemuPid}/task`).map((tid) => `${qemuPid}/task/${tid}`),
        ...vhostWorkers(qemuPid),
      ];
      for (const member of members) {
        t.equal(readFileSync(`/proc/${member}/cgroup`, 'utf8').trim(), `0::${cgroup}`, member);
      }
      const dir = `/sys/fs/cgroup${cgroup}`;
      t.equal(readFileSync(`${dir}/cpu.max`, 'utf8').trim(), '200000 100000', 'the CPU limit of the pod');
      const { stats } = await node.cri.call('ContainerStats', { containerId: vm.id });
      const used = Number(/usage_usec (\d+)/.exec(readFileSync(`${dir}/cpu.stat`, 'utf8'))?.[1]) * 1000;
      const cpu = stats.cpu?.usageCoreNanoSeconds?.value ?? 0;
      t.ok(cpu > used / 2 && cpu <= used, `CPU time: CRI says ${cpu} ns, the cgroup ${used}`);
      const memory = Number(readFileSync(`${dir}/memory.current`, 'utf8'));
      const set = stats.memory?.workingSetBytes?.value ?? 0;
      t.ok(set > 32 * MIB && set < memory * 1.2, `memory: CRI says ${set} bytes, the cgroup ${memory}`);
    });

    await t.test('the drive of guest data is a vfat to the kernels of guest and node', async (t) => {
      using console = await vm.attach();
      const label = 'config-2';
      const file = 'openstack/latest/meta_data.json';
      await console.ask(
        `modprobe -a vfat nls_cp437 nls_ascii; mount -o ro -t vfat $(findfs LABEL=${label}) /mnt && cat /mnt/${file} && umount /mnt`,
        /"uuid": "[0-9a-f-]{36}"/,
      );
      const [image = ''] = globSync(join(node.containerd.directory, 'vms/*/guest-data.img'));
      t.equal((await execa('blkid', ['-o', 'value', '-s', 'LABEL', image])).stdout, label);
      const mounted = tempDir(t);
      await execa('mount', ['-o', 'ro,loop', '-t', 'vfat', image, mounted]);
      try {
        t.match(JSON.parse(readFileSync(join(mounted, file), 'utf8')), { uuid: /^[0-9a-f-]{36}$/ });
      } finally {
        await execa('umount', [mounted]);
      }
    });

    await vm.stop(GRACE);
    t.match(await vm.status(), { exitCode: 0, reason: 'Completed' });
    await vm.remove();
    await pod.stop();
    const left = globSync(`/sys/fs/cgroup${pod.config.linux?.cgroupParent ?? ''}/*/`);
    t.same(left, [], 'nothing is left in the pod’s cgroup');
    t.same(vhostWorkers(qemuPid), [], 'no worker is left');
    await pod.remove();
  });

  await t.test('without vhost-net the VM works as well, and says what is missing', async (t) => {
    renameSync(VHOST, `${VHOST}.away`);
    t.teardown(() => renameSync(`${VHOST}.away`, VHOST));
    const pod = await CriPod.run(t, node);
    const vm = await startVm(pod);
    await vm.log.until(/vmguest: ready/);
    const { network } = await vmStatus(node, vm);
    t.match(network, /no vhost-net: \/dev\/vhost-net does not exist; load the module/);
    using console = await vm.attach();
    await takeAddress(console, await pod.addresses());
    await console.ask('ping -c 3 -W 20 10.88.0.1', ANSWERED);
    const without = await throughput(t, node, console);
    const speeds = [withVhost, without].map((speed) => speed.toFixed(1)).join(' and ');
    // Not in TAP, of which the runner shows no comment.
    process.stderr.write(
      `guest to node: ${speeds} Mbit/s with and without vhost-net, ${(withVhost / without).toFixed(2)} to 1\n`,
    );
    await pod.remove();
  });

  await t.test('a pod out of memory: TaskOOM, exit status 137, and kubelet’s OOMKilled', async (t) => {
    const pod = await CriPod.run(t, node);
    // As kubelet sets it, though too small for this VM.
    const limit = `/sys/fs/cgroup${pod.config.linux?.cgroupParent ?? ''}/memory.max`;
    const vm = await startVm(pod);
    await vm.log.until(/vmguest: ready/);
    writeFileSync(limit, String(160 * MIB));
    using console = await vm.attach();
    console.type('mount -t tmpfs -o size=200m t /mnt && dd if=/dev/zero of=/mnt/fill bs=1M');
    t.match(await vm.exited(), { exitCode: 137, reason: 'OOMKilled' });
    t.match(vm.terminationMessage, /memory/);
    t.match(node.containerd.log(), /TaskOOM/);
  });
});

/** 256 MiB and two vCPUs, booted by its kernel. */
async function startVm(pod: CriPod): Promise<CriContainer> {
  return await pod.start({
    stdin: true,
    annotations: (await vmImage()).kernelBoot,
    resources: { cpuPeriod: 100_000, cpuQuota: 200_000, memoryLimitInBytes: 256 * MIB },
  });
}

async function vmStatus(node: CriNode, { id }: CriContainer): Promise<Status> {
  return JSON.parse((await node.containerd.vmctl('status', id, '--json')).stdout) as Status;
}

async function takeAddress(console: Attached, [ip4 = '']: readonly string[]): Promise<void> {
  await console.ask('dhcp', new RegExp(`dhcp eth0 ${ip4}/24`));
}

/** Where the descriptors of a process lead. */
function openFiles(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
}

/** How often the workers have gone to sleep, so how often they were woken. */
function turns(workers: readonly string[]): number {
  return workers
    .map(
      (name) => /^voluntary_ctxt_switches:\s*(\d+)/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1],
    )
    .reduce((sum, count) => sum + Number(count), 0);
}

/** Of the TAP, which receives what the guest sends. */
async function frames(node: CriNode, tap: string): Promise<{ received: number; sent: number }> {
  const links = JSON.parse(await node.network.run('ip', '-s', '-json', 'link', 'show', tap)) as {
    stats64: Record<'rx' | 'tx', { packets: number }>;
  }[];
  const { rx, tx } = links[0]!.stats64;
  return { received: rx.packets, sent: tx.packets };
}

/** Mbit/s at which a guest that has its address sends `SENT_MIB` to the node. */
async function throughput(t: Test, node: CriNode, console: Attached): Promise<number> {
  const received = node.network.run('sh', '-c', 'socat -u TCP-LISTEN:7000 - | wc -c');
  const began = performance.now();
  await console.ask(
    `until dd if=/dev/zero bs=64k count=${SENT_MIB * 16} 2>/dev/null | nc 10.88.0.1 7000; do :; done; echo "sent $((1 + 1))"`,
    /sent 2\s/,
  );
  t.equal(Number(await received), SENT_MIB * MIB);
  return (SENT_MIB * MIB * 8) / 1e6 / ((performance.now() - began) / 1000);
}
