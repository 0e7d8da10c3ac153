/** How VMs in slices of systemd's end without being asked to: nobody takes them over, or memory is out. */
import { statSync } from 'node:fs';
import t from 'tap';
import { CriPod } from '../support/cri-pod.ts';
import { forgetPod, killShim } from '../support/cri-recreate.ts';
import { criSliceNode, MIB, read } from '../support/cri-slice-node.ts';
import { podSlice, systemctl } from '../support/cri-slices.ts';
import { processEnded } from '../support/shim-client.ts';
import { pidOf } from '../support/vm-record.ts';

void t.test('pods that end in slices of systemd’s', async (t) => {
  const { node, start, recordOf, noScope } = await criSliceNode(t);

  await t.test('a guest that nobody takes over ends with its scope', async (t) => {
    const pod = await CriPod.run(t, node);
    const vm = await start(pod);
    const { qemu, cgroup } = recordOf(vm);
    await killShim(node, { pod, vm, attempt: 0 });
    systemctl('daemon-reload');
    // Beside its threads in the kernel, of KVM and vhost.
    const pids = read(`/sys/fs/cgroup${cgroup}/cgroup.procs`).split('\n');
    t.ok(pids.includes(String(pidOf(qemu))), 'it runs on where it was');
    await pod.remove();
    // kubelet gives the pod up, which is what the guest's keeper waits for.
    forgetPod(pod);
    await processEnded(pidOf(qemu));
    await noScope();
    t.throws(() => statSync(`/sys/fs/cgroup${cgroup}`), { code: 'ENOENT' });
  });

  await t.test('a pod out of memory is told as that', async (t) => {
    const pod = await CriPod.run(t, node, { name: 'web-1' });
    const vm = await start(pod);
    using console = await vm.attach();
    const slice = podSlice(pod.config.metadata.uid);
    const used = Number(read(`/sys/fs/cgroup/kubepods.slice/${slice}/memory.current`));
    // The pod's own limit, as kubelet sets it; the VM's is in its scope.
    systemctl('set-property', '--runtime', slice, `MemoryMax=${used + 4 * MIB}`);
    console.type('mount -t tmpfs -o size=90% t /mnt && dd if=/dev/zero of=/mnt/fill bs=1M');
    t.match(await vm.exited(), { exitCode: 137, reason: 'OOMKilled' });
    t.match(vm.terminationMessage, /memory/);
    await pod.remove();
    await noScope();
  });
});
