import { type Action, GRACE, some } from './action.ts';
import { agentActions } from './agent-actions.ts';
import { type ChaosNode, signal } from './chaos-node.ts';
import { collectEverything, restoreImage } from './collectors.ts';
import { powerAction } from './power-action.ts';
import { anew, type PowerVerb } from './power-model.ts';
import type { Random } from './random.ts';

/** An operator's `vmctl`; what makes no sense in the VM's state is refused, and has to be. */
function power(verb: PowerVerb, options: (random: Random) => readonly string[] = () => []): Action {
  return powerAction(verb, async ({ chaos, vm, random }, refused) => {
    const asked = chaos.vmctl(verb, vm.pod.container ?? '', ...options(random));
    if (!refused) await asked;
    else if (
      await asked.then(
        () => true,
        () => false,
      )
    )
      throw new Error(`${verb} was not refused`);
  });
}

const grace = (random: Random): readonly string[] => ['--grace', String(random.pick([1, 10, GRACE]))];

export const actions = {
  'the guest writes': {
    fault: false,
    boots: 'never',
    run: async ({ vm, random }) => {
      await vm.writes(1 + random.below(100), 20_000);
    },
  },
  'container restart': {
    fault: false,
    boots: 'must',
    run: async ({ chaos, vm, random }) => {
      const timeout = random.pick([0, GRACE]);
      await chaos.node.cri.call('StopContainer', { containerId: vm.pod.container ?? '', timeout });
    },
  },
  'delete and create': {
    fault: false,
    boots: 'must',
    run: ({ vm }) => vm.pod.remove(),
  },
  'delete for good, and create another': {
    fault: false,
    boots: 'must',
    power: anew,
    run: async ({ chaos, vm }) => {
      await vm.replace();
      await chaos.vmctl('gc', '--grace', '0s');
    },
  },
  'vmctl stop': power('stop', (random) => random.pick([['--force'], grace(random)])),
  'vmctl start': power('start'),
  'vmctl reset': power('reset'),
  'vmctl reboot': power('reboot', grace),
  'vmctl pause': power('pause'),
  'vmctl resume': power('resume'),
  'concurrent delete': {
    fault: true,
    boots: 'must',
    run: async ({ chaos, vm, random }) => {
      const { cri } = chaos.node;
      const podSandboxId = vm.pod.sandbox ?? '';
      const containerId = vm.pod.container ?? '';
      const deeds = random.shuffle([
        () => cri.call('StopContainer', { containerId, timeout: 0 }),
        () => cri.call('StopPodSandbox', { podSandboxId }),
        () => cri.call('StopPodSandbox', { podSandboxId }),
        () => cri.call('RemoveContainer', { containerId }),
        () => cri.call('RemovePodSandbox', { podSandboxId }),
      ]);
      // Those that come too early or too late are refused. The pod is removed in any case.
      await Promise.allSettled(deeds.map((deed) => some(random, 200).then(deed)));
      await vm.pod.remove();
    },
  },
  'kill -9 shim': {
    fault: true,
    boots: 'never',
    besides: true,
    run: ({ chaos, vm }) => {
      for (const pid of chaos.shims(vm)) signal(pid, 'SIGKILL');
      return Promise.resolve();
    },
  },
  'kill -9 keeper of an orphan': {
    fault: true,
    boots: 'never',
    run: async ({ chaos, vm, random }) => {
      for (const pid of chaos.shims(vm)) signal(pid, 'SIGKILL');
      await some(random, 1500);
      for (const pid of chaos.keepers()) signal(pid, 'SIGKILL');
    },
  },
  'kill -9 QEMU': {
    fault: true,
    boots: 'must',
    run: async ({ chaos, vm }) => {
      signal(chaos.qemu(vm), 'SIGKILL');
      await Promise.resolve();
    },
  },
  'kill -9 containerd': {
    containerd: true,
    fault: true,
    boots: 'never',
    besides: true,
    run: ({ chaos, random }) => chaos.restartContainerd(() => some(random, 500)),
  },
  'kill -9 shim and containerd': {
    containerd: true,
    fault: true,
    boots: 'never',
    run: ({ chaos, vm }) =>
      chaos.restartContainerd(() => {
        for (const pid of chaos.shims(vm)) signal(pid, 'SIGKILL');
      }),
  },
  'SIGSTOP QEMU, SIGCONT': {
    fault: true,
    boots: 'never',
    run: async ({ chaos, vm, random }) => {
      const qemu = chaos.qemu(vm);
      signal(qemu, 'SIGSTOP');
      // Whoever asks is answered, whatever the guest does.
      await chaos.node.cri.call('ContainerStatus', { containerId: vm.pod.container ?? '' });
      await chaos.vmctl('list');
      await some(random, 1500);
      signal(qemu, 'SIGCONT');
    },
  },
  'SIGSTOP QEMU, container restart': {
    fault: true,
    boots: 'must',
    run: async ({ chaos, vm }) => {
      signal(chaos.qemu(vm), 'SIGSTOP');
      // Asked until it is done, as kubelet does: a containerd that dies meanwhile has forgotten it, and nobody else continues QEMU.
      await vm.pod.stop(1);
    },
  },
  'SIGSTOP containerd, SIGCONT': {
    fault: true,
    boots: 'never',
    besides: true,
    run: async ({ chaos, random }) => {
      const { pid } = chaos.node.containerd;
      signal(pid, 'SIGSTOP');
      await some(random, 2000);
      signal(pid, 'SIGCONT');
    },
  },
  'fill data dir': {
    fault: true,
    boots: 'never',
    run: async ({ chaos, vm, random }) => {
      const ballast = await fill(chaos, 'data');
      // Until the guest stands still for a new cluster, or has shown that it needs none.
      await vm.writes(50 + random.below(100), 5000);
      await chaos.node.network.run('rm', ballast);
    },
  },
  'fill state dir': {
    fault: true,
    // Without a shim it would be an orphan that nobody can be told of, so it ends with a shim that dies meanwhile.
    boots: 'may',
    others: 'may',
    run: async ({ chaos, vm, random }) => {
      const ballast = await fill(chaos, 'vms');
      await vm.writes(10 + random.below(50), 5000);
      await chaos.node.network.run('rm', ballast);
    },
  },
  'fill state dir, container restart': {
    fault: true,
    boots: 'must',
    others: 'may',
    run: async ({ chaos, vm }) => {
      const ballast = await fill(chaos, 'vms');
      await chaos.node.cri
        .call('StopContainer', { containerId: vm.pod.container ?? '', timeout: 0 })
        .finally(() => chaos.node.network.run('rm', ballast));
    },
  },
  'power cut that leaves nothing volatile': {
    containerd: true,
    fault: true,
    boots: 'must',
    others: 'must',
    run: ({ chaos, random }) => chaos.powerCut(random, 'gone'),
  },
  'power cut with a state_dir on disk': {
    containerd: true,
    fault: true,
    boots: 'must',
    others: 'must',
    run: ({ chaos, random }) => chaos.powerCut(random, 'of another boot'),
  },
  'vmctl gc': {
    fault: false,
    boots: 'never',
    besides: true,
    collects: true,
    // Without a grace it takes everything that it can prove to be orphaned.
    run: async ({ chaos }) => {
      await chaos.vmctl('gc', '--grace', '0s');
    },
  },
  'images and garbage are collected': {
    fault: true,
    boots: 'never',
    besides: true,
    collects: true,
    run: async ({ chaos, random }) => {
      try {
        await collectEverything(chaos.node, random);
      } finally {
        await restoreImage(chaos.node);
      }
    },
  },
  ...agentActions,
} satisfies Readonly<Record<string, Action>>;

/** @returns the path of what fills it. */
async function fill({ node }: ChaosNode, directory: 'vms' | 'data'): Promise<string> {
  const ballast = `${node.containerd.directory}/${directory}/ballast`;
  // Fails when the file system is full, which is what it is for.
  await node.network.run('sh', '-c', 'dd if=/dev/zero of="$0" bs=4k 2>/dev/null || true', ballast);
  return ballast;
}
