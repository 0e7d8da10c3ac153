/**
 * What pods of runtime `vm` must do on every containerd, as kubelet runs them. A case gets a node that is shared and leaves no
 * pod on it.
 */
import { createHash } from 'node:crypto';
import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import type { Test } from 'tap';
import { detectCgroupLayout } from '../../src/host/cgroup-layout.ts';
import { controllerDir, planCgroup } from '../../src/host/cgroup-plan.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import type { VmRecord } from '../../src/vm/record.ts';
import type { Resources } from './cri/messages.ts';
import {
  BUSYBOX,
  type CriNode,
  type CriOptions,
  criContainerd,
  criReady,
  importGuest,
  restartContainerd,
} from './cri-containerd.ts';
import { CriEvents } from './cri-events.ts';
import { ContainerLog } from './cri-log.ts';
import { type CriContainer, CriPod } from './cri-pod.ts';
import { forgetPod } from './cri-recreate.ts';
import { processEnded } from './shim-client.ts';
import { vmctl, vmImage } from './vm-image.ts';
import { pidOf, vmRecord } from './vm-record.ts';

const MIB = 2 ** 20;
/** Seconds: more than the guest takes to power off on any machine. */
const GRACE = 60;

type Cases = Readonly<Record<string, Case>>;
type Case = (t: Test, node: CriNode) => Promise<void>;

export const podCases = {
  'a pod’s life, from RunPodSandbox to RemovePodSandbox': async (t, node) => {
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
    t.ok(await vm.log.until(/vmguest: power button/), 'it was stopped by its power button');
    t.match(vm.terminationMessage, /powered itself off/);

    await vm.remove();
    await pod.stop();
    t.match(await pod.status(), { state: 'SANDBOX_NOTREADY' });
    await pod.remove();
    t.same((await node.cri.call('ListPodSandbox', {})).items, []);
  },

  'a container that is started again is the same VM': async (t, node) => {
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
  },

  'how a VM ended is what kubelet shows': async (t, node) => {
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
  },

  'a pod has one VM': async (t, node) => {
    const pod = await CriPod.run(t, node);
    const vm = await pod.start();
    await vm.log.until(/vmguest: ready/);
    const second = await pod.create({ name: 'sidecar' });
    await t.rejects(second.start(), {
      message: /the pod has a VM already .*a pod of this runtime has one container/,
    });
    t.match(await second.status(), { state: 'CONTAINER_EXITED', reason: 'StartError' });
    t.match(await vm.status(), { state: 'CONTAINER_RUNNING' }, 'the VM is as it was');
    await vm.stop(GRACE);
  },

  'a command in the guest is refused with a sentence': async (t, node) => {
    const pod = await CriPod.run(t, node);
    const vm = await pod.start();
    await vm.log.until(/vmguest: ready/);
    const sentence = /cannot run a command inside VM .* use the console \(vmctl console\) instead/;
    const probe = node.cri.call('ExecSync', { containerId: vm.id, cmd: ['true'], timeout: 1 });
    await t.rejects(probe, { message: sentence }, 'a probe’s');
    t.match(await vm.exec('true'), sentence, 'kubectl’s');
    t.match(await vm.status(), { state: 'CONTAINER_RUNNING' });
    await vm.stop(GRACE);
  },

  'limits of a running VM': async (t, node) => {
    const pod = await CriPod.run(t, node);
    const { kernelBoot } = await vmImage();
    const memory = { 'vmshim.io/memory': '128Mi', 'vmshim.io/max-memory': '128Mi' };
    const vm = await pod.start({ annotations: { ...memory, ...kernelBoot } });
    await vm.log.until(/vmguest: ready/);
    const update = (linux: Resources): Promise<unknown> =>
      node.cri.call('UpdateContainerResources', { containerId: vm.id, linux });
    await update({ cpuPeriod: 100_000, cpuQuota: 60_000, cpuShares: 512 });
    t.equal(cpuQuota(vmRecord(node.containerd, vm.id, 'k8s.io')), '60000');
    // As kubelet's CPU manager does for every container that it starts.
    await update({ cpusetCpus: '0' });
    await t.rejects(update({ memoryLimitInBytes: 1024 * MIB }), {
      message: /memory cannot grow to .*recreate it with a larger limit/,
    });
    t.equal(cpuQuota(vmRecord(node.containerd, vm.id, 'k8s.io')), '60000');
    t.match(await vm.status(), { state: 'CONTAINER_RUNNING' });
    await vm.stop(GRACE);
  },

  'its image is collected while it runs': async (t, node) => {
    const guest = await vmImage();
    const image = { image: { image: guest.name } };
    const pod = await CriPod.run(t, node);
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    await node.cri.call('RemoveImage', image);
    t.equal((await node.cri.call('ImageStatus', image)).image, null);
    await identity(vm, 'write-pattern after 4', /pattern written/);
    t.match(await vm.exited(), { exitCode: 0 });

    await importGuest(node);
    const again = await pod.start({ stdin: true, attempt: 1 });
    await again.log.until(/vmguest: ready/);
    await identity(again, 'verify-pattern after 4', /pattern ok/);
    await again.exited();
  },

  'the shim is killed': async (t, node) => {
    const pod = await CriPod.run(t, node);
    const vm = await pod.start();
    await vm.log.until(/vmguest: ready/);
    const { qemu, shim } = vmRecord(node.containerd, vm.id, 'k8s.io');
    process.kill(pidOf(shim), 'SIGKILL');
    // What containerd makes of a shim that cannot answer any more, whatever `delete` says.
    t.match(await vm.exited(), { reason: 'Error', exitCode: 255 });
    await pod.ended();
    // The guest outlives it until kubelet has given the pod up.
    forgetPod(pod);
    await processEnded(pidOf(qemu));
    t.match(await pod.status(), { state: 'SANDBOX_NOTREADY' }, 'kubelet makes the pod anew');
    await pod.remove();

    const { uid } = pod.config.metadata;
    const anew = await CriPod.run(t, node, { uid, attempt: 1 });
    const again = await anew.start({ attempt: 1 });
    await again.log.until(/vmguest: ready/);
    await again.stop(GRACE);
  },

  'what cannot be a VM is refused with a sentence': async (t, node) => {
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
  },

  'pods do not meet': async (t, node) => {
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
  },

  'containerd restarts under a running pod': async (t, node) => {
    const pod = await CriPod.run(t, node);
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    const { startedAt } = await vm.status();
    await restartContainerd(node);
    t.match(await vm.status(), { state: 'CONTAINER_RUNNING', startedAt });
    t.match(await pod.status(), { state: 'SANDBOX_READY' });
    const { items } = await node.cri.call('ListPodSandbox', {});
    t.match(items, [{ id: pod.id, state: 'SANDBOX_READY', runtimeHandler: 'vm' }]);
    const { containers } = await node.cri.call('ListContainers', {});
    t.match(containers, [{ id: vm.id, podSandboxId: pod.id, state: 'CONTAINER_RUNNING' }]);
    {
      using console = await vm.attach();
      await console.ask('cmdline', /console=ttyS0/);
    }
    await vm.log.until(/console=ttyS0/);
    await vm.stop(GRACE);
    t.match(await vm.status(), { exitCode: 0, reason: 'Completed' });
  },

  'a guest powers off while containerd is away': async (t, node) => {
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
  },

  'log rotation': async (t, node) => {
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
  },

  'a container with a terminal': async (t, node) => {
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
  },

  'a pod in the node’s own network': async (t, node) => {
    const pod = await CriPod.run(t, node, { network: 'NODE' });
    t.equal((await pod.status()).network?.ip ?? '', '');
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    {
      using console = await vm.attach();
      await console.ask('dhcp', /dhcp eth0 10\.0\.2\.15/);
    }
    await vm.stop(GRACE);
  },
} satisfies Cases;

/** What depends on how the shim answered containerd when it was started. */
export const connectionCases = {
  lifetime: podCases['a pod’s life, from RunPodSandbox to RemovePodSandbox'],
  'the same VM again': podCases['a container that is started again is the same VM'],
  'a second VM': podCases['a pod has one VM'],
  'an image without a disk': podCases['what cannot be a VM is refused with a sentence'],
  'the shim is killed': podCases['the shim is killed'],
  'containerd restarts under it': podCases['containerd restarts under a running pod'],
  'power-off without containerd': podCases['a guest powers off while containerd is away'],
} satisfies Cases;

/** What containerd 1.6 does not know of. */
export const newerPodCases = {
  'the events that kubelet listens to': async (t, node) => {
    using events = new CriEvents(node.cri);
    const pod = await CriPod.run(t, node);
    const vm = await pod.start({ stdin: true });
    await vm.log.until(/vmguest: ready/);
    await events.until(vm.id, 'CONTAINER_STARTED_EVENT');
    {
      using console = await vm.attach();
      console.type('poweroff');
      const { containersStatuses } = await events.until(vm.id, 'CONTAINER_STOPPED_EVENT');
      t.match(containersStatuses, [{ id: vm.id, state: 'CONTAINER_EXITED', exitCode: 0 }]);
    }
    await pod.stop();
    await events.until(pod.id, 'CONTAINER_STOPPED_EVENT');
    await pod.remove();
    await events.until(vm.id, 'CONTAINER_DELETED_EVENT');
    await events.until(pod.id, 'CONTAINER_DELETED_EVENT');
  },
} satisfies Cases;

/** Runs the cases one after the other on one node; that nothing is left of all their pods is checked at its end. */
export async function runPodCases(t: Test, cases: Cases, options: CriOptions = {}): Promise<void> {
  const node = await criContainerd(t, options);
  for (const [name, run] of Object.entries(cases)) await t.test(name, (t) => run(t, node));
}

/** The CPU quota of the cgroup that QEMU is in, in microseconds. */
function cpuQuota({ cgroup }: VmRecord): string {
  const plan = planCgroup(detectCgroupLayout(new LinuxHost()), cgroup, '');
  const cpu = controllerDir(plan, 'cpu');
  if (cpu === undefined) throw new Error('there is no cpu controller');
  const { hierarchy, dir } = cpu;
  const file = hierarchy.version === 1 ? 'cpu.cfs_quota_us' : 'cpu.max';
  return /\d+/.exec(readFileSync(join(dir, file), 'utf8'))?.[0] ?? '';
}

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
