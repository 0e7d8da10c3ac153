/**
 * VMs on a node where systemd is the init, cgroup v2 is alone, and kubelet and containerd have systemd make cgroups: as on
 * production nodes of today.
 */
import t from 'tap';
import { CriPod } from '../support/cri-pod.ts';
import { killShim, recreate } from '../support/cri-recreate.ts';
import { criSliceNode, MIB, ALLOWED_CPUS, read } from '../support/cri-slice-node.ts';
import { podSlice, systemctl } from '../support/cri-slices.ts';
import { pidOf } from '../support/vm-record.ts';

const cgroupOf = (pid: number): string => read(`/proc/${pid}/cgroup`).replace('0::', '');

void t.test('pods in slices of systemd’s', async (t) => {
  t.equal(read('/proc/1/comm'), 'systemd');
  const { node, spec, start, recordOf, noScope } = await criSliceNode(t);
  const pod = await CriPod.run(t, node);
  const vm = await start(pod);
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
    t.match(before, { 'cpu.max': '150000 100000', 'cpuset.cpus': ALLOWED_CPUS });
    const limit = Number(read(`${dir}/memory.max`));
    t.ok(limit > 128 * MIB && limit < 2048 * MIB, `a limit of ${limit} bytes`);
    const work: readonly (readonly string[])[] = [
      ['daemon-reload'],
      ['set-property', '--runtime', slice, 'CPUWeight=50', 'MemoryMax=1G'],
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
    await noScope();
  });
});
