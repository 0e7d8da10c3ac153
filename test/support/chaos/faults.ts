import { setTimeout as delay } from 'node:timers/promises';
import { importGuest, restartContainerd } from '../cri-containerd.ts';
import { processesOf } from '../leaks.ts';
import { movedVmImage, vmImage } from '../vm-image.ts';
import { collectEverything } from './collectors.ts';
import type { JournalVm } from './journal-vm.ts';
import { rebootNode } from './node-reboot.ts';
import { nodeVmctl } from './node-vmctl.ts';
import type { Random } from './random.ts';

/** Seconds: more than the guest takes to power off on any machine. */
const GRACE = 60;

/** What happens to a VM that runs and writes. It is down afterwards, without a container, and its disk looked at. */
export type Fault = (vm: JournalVm, random: Random) => Promise<void>;

export const faults = {
  'kill -9 of QEMU': async (vm) => {
    process.kill(vm.parts.qemu, 'SIGKILL');
    await vm.container.exited();
    await vm.ended();
    await vm.removeContainer();
  },

  'kill -9 of the shim': async (vm) => {
    const pod = await vm.pod();
    process.kill(vm.parts.shim, 'SIGKILL');
    await pod.ended();
    await vm.ended();
    await vm.removePod();
  },

  'kill -9 of containerd, under which the VM goes on': async (vm, random) => {
    await restartContainerd(vm.node);
    await vm.writes(1 + random.below(20));
    await stopped(vm, 0);
  },

  'kill -9 of everything at once, in any order': async (vm, random) => {
    const { qemu, shim } = vm.parts;
    for (const pid of random.shuffle([qemu, shim, vm.node.containerd.pid])) kill(pid);
    await restartContainerd(vm.node);
    await vm.ended();
    await vm.removePod();
  },

  'restart of the container': (vm, random) => stopped(vm, random.pick([0, GRACE])),

  'the pod is deleted and made again with its UID': async (vm) => {
    const removed = vm.removePod();
    await vm.ended();
    await removed;
  },

  'a power cut that leaves nothing volatile': async (vm, random) => {
    await rebootNode(vm.node, random, 'gone');
    await vm.ended();
    await vm.removePod();
  },

  'a power cut with a state_dir on disk': async (vm, random) => {
    await rebootNode(vm.node, random, 'of another boot');
    await vm.ended();
    await vm.removePod();
  },

  'the image’s tag moves': async (vm) => {
    await stopped(vm, 0);
    await importGuest(vm.node, await movedVmImage());
    // Refused, or booted with the disk it had: `boot` sees to that the guest finds what it wrote.
    const refusal = await vm.boot().then(
      () => undefined,
      (error: unknown) => String(error),
    );
    if (refusal === undefined) await stopped(vm, 0);
    else if (!/made over another image/.test(refusal)) throw new Error(refusal);
    await vm.removeContainer();
    await importGuest(vm.node);
  },

  'images are collected while QEMU is killed': async (vm) => {
    const { name } = await vmImage();
    const { cri } = vm.node;
    process.kill(vm.parts.qemu, 'SIGKILL');
    const removed = cri.call('RemoveImage', { image: { image: name } });
    await vm.container.exited();
    await removed;
    await vm.ended();
    await vm.removeContainer();
    // Now nothing but the overlay refers to it.
    await vm.node.containerd.ctr('--namespace', 'k8s.io', 'content', 'prune', 'references');
    await importGuest(vm.node);
  },

  'images and garbage are collected while the guest writes': async (vm, random) => {
    const ends = random.pick(['killed', 'stopped', 'stopped with grace']);
    await Promise.all([collectEverything(vm.node, random), vm.writes(1 + random.below(100))]);
    if (ends === 'killed') {
      process.kill(vm.parts.qemu, 'SIGKILL');
      await vm.container.exited();
      await vm.ended();
      await vm.removeContainer();
    } else await stopped(vm, ends === 'stopped' ? 0 : GRACE);
    // Now the pod's disk is all that is left of the VM, beside what kubelet has of the pod.
    await nodeVmctl(vm.node, 'gc', '--grace', '0s');
    await importGuest(vm.node);
  },

  'the shim is killed while it makes the VM': async (vm, random) => {
    await stopped(vm, 0);
    const container = await vm.create();
    const { id } = await vm.pod();
    const started = container.start().catch(() => undefined);
    await delay(random.below(400));
    for (const { pid, command } of processesOf(vm.node.containerd.directory))
      if (command.includes('shim.cjs') && command.includes(id)) kill(pid);
    await started;
    await vm.removePod();
  },

  'the file system is full': async (vm) => {
    const { network, containerd } = vm.node;
    const ballast = `${containerd.directory}/data/ballast`;
    // Fails when the disk is full, which is what it is for.
    await network.run('sh', '-c', 'dd if=/dev/zero of="$0" bs=64k 2>/dev/null || true', ballast);
    const failed = await outOfSpace(vm);
    await network.run('rm', ballast);
    if (!failed) await vm.writes(8);
    await stopped(vm, 0);
  },
} satisfies Readonly<Record<string, Fault>>;

async function stopped(vm: JournalVm, grace: number): Promise<void> {
  await vm.container.stop(grace);
  await vm.ended();
  await vm.removeContainer();
}

/**
 * Waits until the guest was refused a write, or stands still for one. A disk with all its clusters may do without
 * another for long; then it is enough that it went on. CRI tells of neither.
 * @returns whether the guest knows of it.
 */
async function outOfSpace(vm: JournalVm): Promise<boolean> {
  const before = vm.look();
  while (vm.look() < before + 400) {
    if (/journal failed/.test(vm.container.log.text)) return true;
    const { stdout } = await vm.node.containerd.vmctl('list');
    if (!stdout.includes('running')) return false;
    await delay(100);
  }
  return false;
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It went with another one.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
