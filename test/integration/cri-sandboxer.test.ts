/**
 * Pods whose sandbox our shim makes itself, through the sandbox API (`sandboxer = "shim"`), as kubelet runs them on
 * containerd 2. That nothing is left of them is checked when the node ends. No pod is in the node's own network here: such a
 * sandbox ends containerd itself before 2.3 (a nil spec in its NewBundle).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type CriNode, criContainerd, restartContainerd } from '../support/cri-containerd.ts';
import { forgetPod } from '../support/cri-recreate.ts';
import { CriPod } from '../support/cri-pod.ts';
import { commandLine, processEnded } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

/** Seconds: more than the guest takes to power off on any machine. */
const GRACE = 60;

void t.test('sandboxes made by the shim on containerd 2', async (t) => {
  const node = await criContainerd(t, { source: 'sid', sandboxer: 'shim' });

  await t.test('a pod’s life', async (t) => {
    const pod = await CriPod.run(t, node);
    t.match(await pod.status(), { state: 'SANDBOX_READY', runtimeHandler: 'vm' });
    t.match(await pod.addresses(), [/^10\.88\.0\.\d+$/, /^fd00:88:0:1::/]);
    const { shim, info } = await sandboxInfo(node, pod);
    t.match(commandLine(shim), /containerd-shim-vm-v2|shim\.cjs/);
    t.match(info, { state: 'SANDBOX_READY', networkSandboxPath: /\/netns\/cni-/ });
    t.match(JSON.parse(info['pod'] ?? ''), {
      ...{ name: 'web-0', namespace: 'shop', uid: pod.config.metadata.uid, hostname: 'web-0' },
      dns: { servers: ['10.96.0.10'], searches: ['shop.svc.cluster.local'] },
      cgroupParent: pod.config.linux?.cgroupParent,
    });

    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    const bundle = node.containerd.bundle(vm.id, 'k8s.io');
    t.ok(existsSync(join(bundle, 'bootstrap.json')), 'containerd knows where the shim is');
    t.notOk(existsSync(join(bundle, 'address')), 'and runs no `start` for the container');
    t.equal(pidOf(vmRecord(node.containerd, vm.id, 'k8s.io').shim), shim);
    {
      using console = await vm.attach();
      await console.ask('dhcp', /dhcp eth0 10\.88\.0\.\d+/);
    }
    const { stats } = await node.cri.call('ContainerStats', { containerId: vm.id });
    t.ok((stats.memory?.workingSetBytes?.value ?? 0) > 2 ** 24, 'the VM’s memory is the container’s');

    await vm.stop(GRACE);
    t.match(await vm.status(), { state: 'CONTAINER_EXITED', exitCode: 0, reason: 'Completed' });
    await vm.log.until(/vmguest: power button/);
    t.match(await pod.status(), { state: 'SANDBOX_READY' }, 'the sandbox outlives its VM');

    const again = await pod.start({ attempt: 1 });
    await again.log.until(/vmguest: ready/);
    await pod.stop();
    t.match(await again.status(), { state: 'CONTAINER_EXITED', exitCode: 137 }, 'stopped without grace');
    t.match(await pod.status(), { state: 'SANDBOX_NOTREADY' });
    await pod.remove();
    await processEnded(shim);
  });

  await t.test('what is wrong with a pod is told when it is run', async (t) => {
    const misspelt = CriPod.run(t, node, { annotations: { 'vmshim.io/memmory': '1Gi' } });
    await t.rejects(misspelt, { message: /unknown annotation "vmshim.io\/memmory".*vmshim.io\/memory/ });
    t.same((await node.cri.call('ListPodSandbox', {})).items, []);
  });

  await t.test('containerd restarts under a running pod, and hears of its sandbox’s end', async (t) => {
    await killShim(t, node, await restart(t, node), 1);
  });

  await t.test('the shim is killed', async (t) => {
    await killShim(t, node, await CriPod.run(t, node), 0);
  });
});

/** Its support is an experiment: it never stops a pod again whose shim was killed, which therefore nobody does here. */
void t.test('sandboxes made by the shim on containerd 1.7', async (t) => {
  const env = { ENABLE_CRI_SANDBOXES: '1' };
  const node = await criContainerd(t, { source: 'trixie', sandboxer: 'shim', env });
  const pod = await restart(t, node);
  await pod.stop();
  t.match(await pod.status(), { state: 'SANDBOX_NOTREADY' });
  await pod.remove();
});

/** containerd comes back and finds the sandbox and the VM as they were. */
async function restart(t: Test, node: CriNode): Promise<CriPod> {
  const pod = await CriPod.run(t, node);
  const vm = await pod.start({ stdin: true });
  await vm.log.until(/vmguest: ready/);
  const { startedAt } = await vm.status();
  await restartContainerd(node);
  t.match(await pod.status(), { state: 'SANDBOX_READY' });
  t.match(await vm.status(), { state: 'CONTAINER_RUNNING', startedAt });
  {
    using console = await vm.attach();
    await console.ask('echo "still $((6 * 7))"', /still 42/);
  }
  await vm.stop(GRACE);
  t.match(await vm.status(), { exitCode: 0, reason: 'Completed' });
  return pod;
}

/** Kills the shim of a running VM: containerd notices, and everything of the pod ends with it. */
async function killShim(t: Test, node: CriNode, pod: CriPod, attempt: number): Promise<void> {
  const vm = await pod.start({ attempt });
  await vm.log.until(/vmguest: ready/);
  const { qemu, shim } = vmRecord(node.containerd, vm.id, 'k8s.io');
  process.kill(pidOf(shim), 'SIGKILL');
  t.match(await vm.exited(), { reason: 'Error' });
  // The guest outlives it until kubelet has given the pod up; `delete` may come before that or after.
  forgetPod(pod);
  await processEnded(pidOf(qemu));
  t.pass('`delete`, which containerd runs for the sandbox alone, leaves the guest to its keeper');
  await pod.ended();
  await removeAsKubelet(pod);
}

/** kubelet tries again what fails while containerd is still getting over the loss of a shim. */
async function removeAsKubelet(pod: CriPod): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      await pod.remove();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await delay(100);
    }
  }
}

/** What the shim says of a sandbox to those who ask for details, and its pid. */
async function sandboxInfo(
  node: CriNode,
  { id }: CriPod,
): Promise<{ shim: number; info: Record<string, string> }> {
  const { info } = await node.cri.call('PodSandboxStatus', { podSandboxId: id, verbose: true });
  return { shim: Number(info['pid']), info };
}
