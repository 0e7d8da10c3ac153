/**
 * Pods as kubelet runs them: containerd with its CRI plugin, the distribution's CNI plugins, and our runtime as handler
 * `vm`. The node is made once; that nothing is left of all these pods is checked at its end.
 */
import { createHash } from 'node:crypto';
import { renameSync } from 'node:fs';
import { execa } from 'execa';
import t from 'tap';
import { BUSYBOX, criContainerd, criReady, restartContainerd } from '../support/cri-containerd.ts';
import { ContainerLog } from '../support/cri-log.ts';
import { type CriContainer, CriPod } from '../support/cri-pod.ts';
import { vmctl, vmImage } from '../support/vm-image.ts';

const MIB = 2 ** 20;
/** Seconds: more than the guest takes to power off on any machine. */
const GRACE = 60;

void t.test('pods of runtime class vm', async (t) => {
  const node = await criContainerd(t);

  await t.test('a pod’s life, from RunPodSandbox to RemovePodSandbox', async (t) => {
    const pod = await CriPod.run(t, node);
    const sandbox = await pod.status();
    t.match(sandbox, { state: 'SANDBOX_READY', runtimeHandler: 'vm' });
    t.match(await pod.addresses(), [/^10\.88\.0\.\d+$/, /^fd00:88:0:1::/]);

    const vm = await pod.create({
      annotations: (await vmImage()).kernelBoot,
      resources: { cpuPeriod: 100_000, cpuQuota: 150_000, memoryLimitInBytes: 192 * MIB },
    });
    t.match(await vm.status(), { state: 'CONTAINER_CREATED' });
    await vm.start();
    const ready = await vm.log.until(/vmguest: ready .*cpus=(\d+) mem=(\d+)kB/);
    t.equal(ready[1], '2', 'the CPU limit, rounded up');
    const ram = Number(ready[2]) * 1024;
    t.ok(ram > 128 * MIB && ram < 192 * MIB, 'the memory limit, less what the kernel keeps');
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

  await t.test('a container that is started again is the same VM', async (t) => {
    const pod = await CriPod.run(t, node);
    const first = await pod.start({ stdin: true });
    await first.log.until(/vmguest: ready/);
    const before = await identity(first, 'write-pattern kept 4', /pattern written/);
    const end = await first.exited();
    t.match(end, { exitCode: 0, reason: 'Completed' });

    const second = await pod.start({ stdin: true, attempt: 1 });
    t.not(second.id, first.id);
    await second.log.until(/vmguest: ready/);
    t.same(await identity(second, 'verify-pattern kept 4', /pattern ok/), before, 'same UUID and MAC');
    await second.exited();
  });

  await t.test('how a VM ended is what kubelet shows', async (t) => {
    const pod = await CriPod.run(t, node);
    const panicked = await pod.start({ stdin: true });
    await panicked.log.until(/vmguest: ready/);
    {
      using console = await panicked.attach();
      console.type('panic');
      t.match(await panicked.exited(), { exitCode: 1, reason: 'Error' });
    }
    t.equal(panicked.terminationMessage, 'the guest kernel panicked');

    const deaf = await pod.start({ stdin: true, attempt: 1 });
    await deaf.log.until(/vmguest: ready/);
    {
      using console = await deaf.attach();
      await console.ask('hang', /deaf to the power button/);
    }
    await deaf.stop(1);
    t.match(await deaf.status(), { exitCode: 137, reason: 'Error' });
    t.equal(deaf.terminationMessage, 'the VM was killed on request by signal 9');
  });

  await t.test('a pod has one VM', async (t) => {
    const pod = await CriPod.run(t, node);
    const vm = await pod.start();
    await vm.log.until(/vmguest: ready/);
    const second = await pod.create({ name: 'sidecar' });
    await t.rejects(node.cri.call('ExecSync', { containerId: vm.id, cmd: ['true'] }), {
      message: /cannot run a command inside VM/,
    });
    await t.rejects(second.start(), {
      message: /the pod has a VM already .*a pod of this runtime has one container/,
    });
    t.match(await second.status(), { state: 'CONTAINER_EXITED', reason: 'StartError' });
    t.match(await vm.status(), { state: 'CONTAINER_RUNNING' }, 'the VM is as it was');
    await vm.stop(GRACE);
  });

  await t.test('what cannot be a VM is refused with a sentence', async (t) => {
    const pod = await CriPod.run(t, node);
    const busybox = await pod.create({ image: BUSYBOX });
    await t.rejects(busybox.start(), { message: /the image has no \/disk directory/ });
    const vm = await pod.start({ attempt: 1 });
    await vm.log.until(/vmguest: ready/);
    await vm.stop(GRACE);

    const misspelt = CriPod.run(t, node, { annotations: { 'vmshim.io/memmory': '1Gi' } });
    await t.rejects(misspelt, { message: /unknown annotation "vmshim.io\/memmory".*vmshim.io\/memory/ });
    t.same(
      (await node.cri.call('ListPodSandbox', {})).items.filter(({ id }) => id !== pod.id),
      [],
    );
  });

  await t.test('pods do not meet', async (t) => {
    const names = ['web-0', 'web-1'];
    const vms = await Promise.all(
      names.map(async (name) => {
        const pod = await CriPod.run(t, node, { name });
        const vm = await pod.start({ stdin: true });
        await vm.log.until(/vmguest: ready/);
        return { vm, seen: await identity(vm, `echo I am ${name}`, new RegExp(`I am ${name}`)) };
      }),
    );
    const [a, b] = vms.map(({ seen }) => seen);
    t.not(a?.uuid, b?.uuid);
    t.not(a?.mac, b?.mac);
    await Promise.all(vms.map(({ vm }) => vm.exited()));
  });

  await t.test('containerd restarts under a running pod', async (t) => {
    const pod = await CriPod.run(t, node);
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    const { startedAt } = await vm.status();
    await restartContainerd(node);
    t.match(await vm.status(), { state: 'CONTAINER_RUNNING', startedAt });
    t.match(await pod.status(), { state: 'SANDBOX_READY' });
    {
      using console = await vm.attach();
      await console.ask('cmdline', /console=ttyS0/);
    }
    await vm.log.until(/console=ttyS0/);
    await vm.stop(GRACE);
    t.match(await vm.status(), { exitCode: 0, reason: 'Completed' });
  });

  await t.test('a guest powers off while containerd is away', async (t) => {
    const pod = await CriPod.run(t, node);
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    await node.containerd.kill();
    // Ends when the VM does.
    await execa(vmctl, ['console', vm.id], { env: node.containerd.environment(), input: 'poweroff\n' });
    await node.containerd.start();
    await criReady(node.cri);
    t.match(await vm.exited(), { exitCode: 0, reason: 'Completed' });
    t.equal(vm.terminationMessage, 'the guest powered itself off');
    t.match(await pod.status(), { state: 'SANDBOX_READY' }, 'the pod is there for a new start');
    const again = await pod.start({ attempt: 1 });
    await again.log.until(/vmguest: ready/);
  });

  await t.test('log rotation', async (t) => {
    const pod = await CriPod.run(t, node);
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    renameSync(vm.log.path, `${vm.log.path}.1`);
    await node.cri.call('ReopenContainerLog', { containerId: vm.id });
    using console = await vm.attach();
    await console.ask('burst 100000', /burst-end [0-9a-f]{64}/);
    await vm.log.until(/burst-end [0-9a-f]{64}/);
    const rotated = new ContainerLog(`${vm.log.path}.1`).text;
    t.match(rotated, /vmguest: ready/);
    t.notMatch(rotated, /burst/, 'the old file ends where it was put aside');
    const said = /burst-begin 100000\r?\n([^]*?)\r?\nburst-end ([0-9a-f]+)/.exec(vm.log.text);
    const burst = said?.[1]?.replaceAll('\r', '') ?? '';
    t.equal(createHash('sha256').update(burst).digest('hex'), said?.[2], 'nothing is lost');
    await vm.stop(GRACE);
  });

  await t.test('a container with a terminal', async (t) => {
    const pod = await CriPod.run(t, node);
    const vm = await pod.start({ stdin: true, tty: true });
    await vm.log.until(/vmguest: ready/);
    const console = await vm.attach();
    console.resize(132, 43);
    await console.ask('echo "hello from $((40 + 2))"', /hello from 42\r\n/);
    {
      using other = await vm.attach();
      await other.ask('echo "both $((6 * 7))"', /both 42\r\n/);
      await console.output.until(/both 42\r\n/);
    }
    await console.ask('echo "still $((6 * 7))"', /still 42\r\n/);
    console[Symbol.dispose]();
    await vm.stop(GRACE);
    t.match(await vm.status(), { exitCode: 0 });
  });

  await t.test('a pod in the node’s own network', async (t) => {
    const pod = await CriPod.run(t, node, { network: 'NODE' });
    t.equal((await pod.status()).network?.ip ?? '', '');
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    {
      using console = await vm.attach();
      await console.ask('dhcp', /dhcp eth0 10\.0\.2\.15/);
    }
    await vm.stop(GRACE);
  });
});

/** Does something at the guest's console, asks who it is and powers it off. */
async function identity(
  vm: CriContainer,
  task: string,
  done: RegExp,
): Promise<{ uuid: string; mac: string }> {
  using console = await vm.attach();
  await console.ask(task, done);
  const uuid = await console.ask('cat /sys/class/dmi/id/product_uuid', /[0-9a-f]{8}-[0-9a-f-]{27}/);
  const mac = await console.ask(
    'cat /sys/class/net/eth0/address',
    /([0-9a-f]{2}:){5}[0-9a-f]{2}|No such file/,
  );
  console.type('poweroff');
  return { uuid: uuid[0], mac: mac[0] };
}
