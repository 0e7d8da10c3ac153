/** A pod whose VM is switched off and on: for kubelet it runs, on the network it is gone and comes back as it was. */
import t from 'tap';
import { criContainerd } from '../support/cri-containerd.ts';
import { BRIDGED_GUEST, takeAddresses } from '../support/cri-guest.ts';
import { hostLocal } from '../support/cri-node-network.ts';
import { CriPod } from '../support/cri-pod.ts';
import { vmRecord } from '../support/vm-record.ts';

void t.test('a VM on a TAP is switched off and on', async (t) => {
  const node = await criContainerd(t, {
    handlers: {
      bridged: (network, stateDir) => [
        { type: 'vm-tap', bridge: network.bridge, isGateway: true, stateDir, ipam: hostLocal(network) },
      ],
    },
  });
  const { containerd, network } = node;
  const pod = await CriPod.run(t, node, { handler: 'bridged' });
  const addresses = await pod.addresses();
  const [ip4 = ''] = addresses;
  const vm = await pod.start({ stdin: true });
  await vm.log.until(/vmguest: ready/);
  const console = await vm.attach();
  t.teardown(() => console[Symbol.dispose]());
  const mac = await takeAddresses(console, addresses, BRIDGED_GUEST);
  const ping = (): Promise<string> => network.run('busybox', 'ping', '-c', '3', '-W', '20', ip4);
  await ping();
  const { nics, cgroup } = vmRecord(containerd, vm.id, 'k8s.io');
  const tap = nics[0]?.tap ?? '';
  const powerState = async (id: string): Promise<unknown> => {
    const { stdout } = await containerd.vmctl('status', id, '--json');
    return (JSON.parse(stdout) as Readonly<Record<string, unknown>>)['powerState'];
  };

  await t.test('off: kubelet sees it run, its address answers no more', async (t) => {
    await network.run('ip', 'link', 'show', tap);
    await containerd.vmctl('stop', vm.id, '--force');
    t.match(await vm.status(), { state: 'CONTAINER_RUNNING' });
    t.match(await pod.status(), { state: 'SANDBOX_READY' });
    await t.rejects(
      network.run('ip', 'link', 'show', tap),
      /does not exist/,
      'nothing of it is on the node’s network',
    );
    await t.rejects(network.run('busybox', 'ping', '-c', '1', '-W', '1', ip4));
    await node.cri.call('UpdateContainerResources', { containerId: vm.id, linux: { cpuShares: 512 } });
    const { stats } = await node.cri.call('ContainerStats', { containerId: vm.id });
    t.ok(stats, 'its figures are asked for all the time');
  });

  await t.test('on: the same MAC and IP addresses on the same TAP', async (t) => {
    const from = console.output.text.length;
    await containerd.vmctl('start', vm.id);
    await console.output.until(/vmguest: ready/, from);
    t.equal(await takeAddresses(console, addresses, BRIDGED_GUEST), mac);
    await ping();
    t.match(vmRecord(containerd, vm.id, 'k8s.io'), { nics, cgroup });
  });

  await t.test('a VM that is off stays off when kubelet makes its container anew', async (t) => {
    await console.ask(
      'printf kept | dd of=/dev/vda bs=512 seek=140000 conv=notrunc,fsync; echo w$((1))',
      /w1/,
    );
    await containerd.vmctl('stop', vm.id, '--force');
    await vm.stop(30);
    t.match(await vm.status(), { state: 'CONTAINER_EXITED', exitCode: 0 }, 'it has ended at once, and well');
    t.equal(vm.terminationMessage.trim(), 'the VM was off when its task was ended');
    await vm.remove();
    const next = await pod.start({ stdin: true, attempt: 1 });
    t.equal(await powerState(next.id), 'off');
    t.match(await next.status(), { state: 'CONTAINER_RUNNING' });
    await containerd.vmctl('start', next.id);
    await next.log.until(/vmguest: ready/);
    using again = await next.attach();
    await again.ask(
      'dd if=/dev/vda bs=512 skip=140000 count=1 2>/dev/null | head -c 4; echo " r$((1))"',
      /kept r1/,
    );
    // What is removed is off again, and its pod is deleted.
    await containerd.vmctl('stop', next.id, '--force');
    await pod.remove();
  });
});
