/** A guest that outlives its shim is taken over as it was, and is not lost where that fails. */
import { readFileSync, renameSync, watch } from 'node:fs';
import t from 'tap';
import type { VmRecord } from '../../src/vm/record.ts';
import { criContainerd } from '../support/cri-containerd.ts';
import { CriPod } from '../support/cri-pod.ts';
import { killShim, recreate, type RunningPod } from '../support/cri-recreate.ts';
import { WAYS } from '../support/cri-ways.ts';
import { processEnded } from '../support/shim-client.ts';
import { vmImage } from '../support/vm-image.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const MIB = 2 ** 20;
const limits = (cpus: number, mib: number) => ({
  cpuPeriod: 100_000,
  cpuQuota: cpus * 100_000,
  memoryLimitInBytes: mib * MIB,
});

void t.test('a guest that outlives its shim', async (t) => {
  // Pods outlive the parts of the test.
  const whole = t;
  const node = await criContainerd(t, { vmPlugins: WAYS['a TAP on the node’s bridge'].plugins });
  const { containerd, cri } = node;
  const { kernelBoot } = await vmImage();
  const annotations = { 'vmshim.io/max-memory': '256Mi', 'vmshim.io/max-cpus': '2', ...kernelBoot };
  const pod = await CriPod.run(t, node);
  const vm = await pod.start({ stdin: true, annotations, resources: limits(1, 128) });
  await vm.log.until(/vmguest: ready/);
  let running: RunningPod = { pod, vm, attempt: 0 };
  // As kubelet asks for the pod's container from now on.
  const spec = { annotations, resources: limits(2, 192) };
  const recordOf = (id: string): VmRecord => vmRecord(containerd, id, 'k8s.io');
  const status = async (): Promise<{ memoryBytes: number; warnings: string[] }> => {
    const { stdout } = await containerd.vmctl('status', running.vm.id, '--json');
    return JSON.parse(stdout) as Awaited<ReturnType<typeof status>>;
  };
  const { qemu } = recordOf(vm.id);
  /** Resolves with the pid of an orphan's keeper, once it has written itself into the record. */
  const keeperOf = async (id: string): Promise<number> => {
    const { promise, resolve } = Promise.withResolvers<number>();
    const look = (): void => {
      const keeper = recordOf(id).orphan?.keeper;
      if (keeper !== undefined) resolve(keeper.pid);
    };
    using watching = new DisposableStack();
    const watcher = watch(recordOf(id).runDir, look);
    watching.defer(() => watcher.close());
    look();
    return await promise;
  };

  await t.test('paused, with limits that were raised while it ran', async (t) => {
    await cri.call('UpdateContainerResources', { containerId: vm.id, linux: limits(2, 192) });
    await containerd.vmctl('pause', vm.id);
    await killShim(node, running);
    running = await recreate(whole, node, running, spec);
    t.same(
      recordOf(running.vm.id).qemu,
      qemu,
      'the machine is what is asked for now, and was not booted anew',
    );
    const asked = /asked to have 192 MiB of RAM and has 128 MiB so far/;
    const now = await status();
    t.match(now, { powerState: 'paused', vcpus: 2, maxMemoryBytes: 256 * MIB });
    t.match(now.warnings.join(), asked);
    await containerd.vmctl('resume', running.vm.id);
    using console = await running.vm.attach();
    await console.ask('cpus', /cpus present=0-1 /);
    await console.ask('modprobe virtio_mem && echo "loaded $((6 * 7))"', /loaded 42\s/);
    while ((await status()).memoryBytes !== 192 * MIB) await console.ask('echo "$((6 * 7))"', /42\s/);
    t.notMatch(running.vm.log.text, /vmguest: booting/);
  });

  await t.test('one that cannot be taken over runs on, and the next attempt takes it', async (t) => {
    await killShim(node, running);
    await running.pod.remove();
    const { name, uid } = running.pod.config.metadata;
    const { runDir: old, orphan: waiting } = recordOf(running.vm.id);
    renameSync(`${old}/qmp.sock`, `${old}/hidden.sock`);
    const next = await CriPod.run(whole, node, { name, uid, attempt: 5 });
    const failed = await next.create({ stdin: true, attempt: 5, ...spec });
    await t.rejects(
      failed.start(),
      /does not answer; unless it does, it is ended at .*qmp\.sock/,
      'it says what is wrong',
    );
    const left = recordOf(failed.id);
    t.same(left.qemu, qemu);
    t.ok(left.orphan !== undefined && !left.orphan.ending, 'it waits for the next one');
    t.ok(waiting !== undefined);
    t.equal(
      left.orphan?.deadline,
      waiting?.deadline,
      'not for ever: a QEMU that hangs would keep its pod from starting',
    );
    t.notOk(left.shim, 'and is nobody’s');
    t.notMatch(readFileSync(`/proc/${pidOf(qemu)}/stat`, 'latin1'), /\) [ZX] /);
    const keeper = await keeperOf(failed.id);

    renameSync(`${left.runDir}/hidden.sock`, `${left.runDir}/qmp.sock`);
    const again = await next.start({ stdin: true, attempt: 6, ...spec });
    running = { pod: next, vm: again, attempt: 6 };
    t.same(recordOf(again.id).qemu, qemu);
    await processEnded(keeper);
    using console = await again.attach();
    await console.ask('echo "still $((6 * 7))"', /still 42/);
  });

  await t.test('one that was switched off stays off', async (t) => {
    await containerd.vmctl('stop', running.vm.id, '--force');
    await killShim(node, running);
    running = await recreate(whole, node, running, spec);
    t.match(await status(), { powerState: 'off' });
    t.match(await running.vm.status(), { state: 'CONTAINER_RUNNING' });
    await containerd.vmctl('start', running.vm.id);
    await running.vm.log.until(/vmguest: ready/);
    t.match(await status(), { powerState: 'on', vcpus: 2, memoryBytes: 192 * MIB });
    await running.pod.remove();
  });
});
