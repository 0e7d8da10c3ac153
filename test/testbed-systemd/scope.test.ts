/**
 * VMs on a node where systemd is the init, cgroup v2 is alone, and kubelet and containerd have systemd make cgroups: as on
 * production nodes of today.
 */
import { readFileSync, statSync } from 'node:fs';
import t from 'tap';
import { criContainerd } from '../support/cri-containerd.ts';
import { hostLocal } from '../support/cri-node-network.ts';
import { type CriContainer, CriPod } from '../support/cri-pod.ts';
import { forgetPod, killShim, recreate } from '../support/cri-recreate.ts';
import { podSlice, systemctl } from '../support/cri-slices.ts';
import { processEnded } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';
import { vmImage } from '../support/vm-image.ts';

const MIB = 2 ** 20;

const read = (path: string): string => readFileSync(path, 'utf8').trim();
const cgroupOf = (pid: number): string => read(`/proc/${pid}/cgroup`).replace('0::', '');

void t.test('pods in slices of systemd’s', async (t) => {
  t.equal(read('/proc/1/comm'), 'systemd');
  const node = await criContainerd(t, {
    cgroupDriver: 'systemd',
    vmPlugins: (network, stateDir) => [
      { type: 'vm-tap', bridge: network.bridge, isGateway: true, stateDir, ipam: hostLocal(network) },
    ],
  });
  const spec = {
    stdin: true,
    annotations: (await vmImage()).kernelBoot,
    resources: {
      cpuPeriod: 100_000,
      cpuQuota: 150_000,
      cpuShares: 512,
      cpusetCpus: '0-1',
      memoryLimitInBytes: 128 * MIB,
    },
  };
  const recordOf = ({ id }: CriContainer) => vmRecord(node.containerd, id, 'k8s.io');
  const started = async (pod: CriPod): Promise<CriContainer> => {
    const vm = await pod.start(spec);
    await vm.log.until(/vmguest: ready/);
    return vm;
  };
  const pod = await CriPod.run(t, node);
  const vm = await started(pod);
  const slice = podSlice(pod.config.metadata.uid);
  const scope = `cri-containerd-${vm.id}.scope`;
  const path = `/kubepods.slice/${slice}/${scope}`;
  const dir = `/sys/fs/cgroup${path}/vm`;
  const limits = (): unknown =>
    Object.fromEntries(
      ['cpu.max', 'cpu.weight', 'cpuset.cpus', 'memory.max'].map((file) => [file, read(`${dir}/${file}`)]),
    );
  const told = async (id: string): Promise<{ cpu: number; memory: number }> => {
    const { stats } = await node.cri.call('ContainerStats', { containerId: id });
    return {
      cpu: stats.cpu?.usageCoreNanoSeconds?.value ?? 0,
      memory: stats.memory?.workingSetBytes?.value ?? 0,
    };
  };

  await t.test('QEMU is in a delegated scope of the pod’s slice, the shim is not', (t) => {
    const { qemu, shim } = recordOf(vm);
    t.equal(cgroupOf(pidOf(qemu)), `${path}/vm`);
    t.equal(cgroupOf(pidOf(shim)), cgroupOf(process.pid), 'in the cgroup of whoever runs containerd');
    const properties = ['ActiveState', 'Delegate', 'Slice', 'ControlGroup'];
    t.same(systemctl('show', scope, `--property=${properties.join()}`).trim().split('\n').sort(), [
      'ActiveState=active',
      `ControlGroup=${path}`,
      'Delegate=yes',
      `Slice=${slice}`,
    ]);
    t.end();
  });

  await t.test('limits and figures stay, whatever systemd does to its units', async (t) => {
    const before = limits();
    t.match(before, { 'cpu.max': '150000 100000', 'cpuset.cpus': '0-1' });
    const limit = Number(read(`${dir}/memory.max`));
    t.ok(limit > 128 * MIB && limit < 2048 * MIB, `a limit of ${limit} bytes`);
    const work: readonly (readonly string[])[] = [
      ['daemon-reload'],
      ['set-property', '--runtime', slice, 'CPUWeight=50', 'MemoryMax=1G'],
      ['set-property', '--runtime', scope, 'CPUWeight=70'],
      ['daemon-reload'],
      ['daemon-reexec'],
    ];
    for (const args of work) {
      systemctl(...args);
      t.same(limits(), before, args.join(' '));
      const { cpu, memory } = await told(vm.id);
      t.ok(cpu > 0 && memory > 16 * MIB, `CRI says ${cpu} ns and ${memory} bytes`);
    }
    const linux = { ...spec.resources, cpuQuota: 120_000 };
    await node.cri.call('UpdateContainerResources', { containerId: vm.id, linux });
    t.equal(read(`${dir}/cpu.max`), '120000 100000', 'and can be changed');
  });

  await t.test('a VM that is off keeps its scope', async (t) => {
    const { qemu } = recordOf(vm);
    await node.containerd.vmctl('stop', vm.id, '--force');
    t.match(systemctl('show', scope, '--property=ActiveState'), 'ActiveState=active');
    t.equal(read(`${dir}/cgroup.procs`), '');
    await node.containerd.vmctl('start', vm.id);
    const next = pidOf(recordOf(vm).qemu);
    t.not(next, pidOf(qemu));
    t.equal(cgroupOf(next), `${path}/vm`);
  });

  await t.test('the next shim takes the guest over where it is', async (t) => {
    const { qemu } = recordOf(vm);
    await killShim(node, { pod, vm, attempt: 0 });
    const next = await recreate(t, node, { pod, vm, attempt: 0 }, spec);
    t.same(recordOf(next.vm).qemu, qemu, 'the same QEMU');
    systemctl('daemon-reload');
    t.equal(cgroupOf(pidOf(qemu)), `${path}/vm`);
    t.ok((await told(next.vm.id)).memory > 16 * MIB);
    await next.pod.remove();
    t.same(await node.leaks(600_000), [], 'and nothing is left of the scope');
  });

  await t.test('a guest that nobody takes over ends with its scope', async (t) => {
    const pod = await CriPod.run(t, node, { name: 'web-1' });
    const vm = await started(pod);
    const { qemu, cgroup } = recordOf(vm);
    await killShim(node, { pod, vm, attempt: 0 });
    await pod.remove();
    forgetPod(pod);
    await processEnded(pidOf(qemu));
    t.same(await node.leaks(600_000), []);
    t.throws(() => statSync(`/sys/fs/cgroup${cgroup}`), { code: 'ENOENT' });
  });

  await t.test('a pod out of memory is told as that', async (t) => {
    const pod = await CriPod.run(t, node, { name: 'web-2' });
    const vm = await started(pod);
    systemctl('set-property', '--runtime', podSlice(pod.config.metadata.uid), `MemoryMax=${100 * MIB}`);
    using console = await vm.attach();
    console.type('mount -t tmpfs -o size=100m t /mnt && dd if=/dev/zero of=/mnt/fill bs=1M');
    t.match(await vm.exited(), { exitCode: 137, reason: 'OOMKilled' });
    await pod.remove();
    t.same(await node.leaks(600_000), []);
  });
});
