/**
 * Pods as kubelet runs them: containerd with its CRI plugin, the distribution's CNI plugins, and our runtime as handler
 * `vm`. The node is made once; that nothing is left of all these pods is checked at its end.
 */
import t from 'tap';
import { BUSYBOX, criContainerd } from '../support/cri-containerd.ts';
import { CriPod } from '../support/cri-pod.ts';

const MIB = 2 ** 20;
/** Seconds: more than the guest takes to power off on any machine. */
const GRACE = 60;

void t.test('pods of runtime class vm', async (t) => {
  const node = await criContainerd(t);

  await t.test('a pod’s life, from RunPodSandbox to RemovePodSandbox', async (t) => {
    const pod = await CriPod.run(node);
    const sandbox = await pod.status();
    t.match(sandbox, { state: 'SANDBOX_READY', runtimeHandler: 'vm' });
    t.match(await pod.addresses(), [/^10\.88\.0\.\d+$/, /^fd00:88:0:1::/]);

    const vm = await pod.create();
    t.match(await vm.status(), { state: 'CONTAINER_CREATED' });
    await vm.start();
    await vm.log.until(/vmguest: ready/);
    t.match(await vm.status(), { state: 'CONTAINER_RUNNING', exitCode: 0 });

    const { stats } = await node.cri.call('ContainerStats', { containerId: vm.id });
    t.ok((stats.cpu?.usageCoreNanoSeconds?.value ?? 0) > 1e8, 'the VM’s CPU time is the container’s');
    t.ok((stats.memory?.workingSetBytes?.value ?? 0) > 16 * MIB, 'the VM’s memory is the container’s');
    const { stats: podStats } = await node.cri.call('PodSandboxStats', { podSandboxId: pod.id });
    t.ok(
      (podStats.linux?.memory?.workingSetBytes?.value ?? 0) > 16 * MIB,
      'QEMU runs in the cgroup that kubelet made for the pod',
    );

    await vm.stop(GRACE);
    t.match(await vm.status(), { state: 'CONTAINER_EXITED', exitCode: 0, reason: 'Completed' });
    t.match(vm.log.text, /vmguest: power button/, 'it was stopped by its power button');
    t.match(vm.terminationMessage, /powered itself off/);

    await vm.remove();
    await pod.stop();
    t.match(await pod.status(), { state: 'SANDBOX_NOTREADY' });
    await pod.remove();
    t.same((await node.cri.call('ListPodSandbox', {})).items, []);
  });
});
