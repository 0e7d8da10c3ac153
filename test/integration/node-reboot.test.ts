/**
 * A node goes down and comes up again, as far as a test can make it: nothing volatile is left of its VMs, whatever they were
 * doing, and all that is to stay is there.
 */
import { globSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { rebootNode } from '../support/chaos/node-reboot.ts';
import { nodeVmctl } from '../support/chaos/node-vmctl.ts';
import { Random } from '../support/chaos/random.ts';
import { criContainerd } from '../support/cri-containerd.ts';
import { CriPod } from '../support/cri-pod.ts';
import { killShim, recreate } from '../support/cri-recreate.ts';
import { startGuest, WAYS } from '../support/cri-ways.ts';
import { vmImage } from '../support/vm-image.ts';
import { vmRecord } from '../support/vm-record.ts';

const way = WAYS['a TAP on the node’s bridge'];

void t.test('pods of a node that reboots', async (t) => {
  const node = await criContainerd(t, { vmPlugins: way.plugins });
  const { containerd, podNetwork } = node;
  const data = join(containerd.directory, 'data');
  const notes = (): string[] => globSync(join(data, 'leases/*'));
  /** Ids of the sandboxes that IPAM counts addresses for; host-local has a file for each, that begins with it. */
  const leased = (): string[] =>
    globSync(`${podNetwork.leases}/${podNetwork.name}/{*.*.*,*:*}`)
      .filter((path) => !path.includes('last_reserved_ip'))
      .map((path) => readFileSync(path, 'utf8').split(/\s/)[0] ?? '');
  const powerOf = async (id: string): Promise<unknown> => {
    const { stdout } = await containerd.vmctl('status', id, '--json');
    return (JSON.parse(stdout) as Readonly<Record<string, unknown>>)['powerState'];
  };

  // A guest that a second shim has: IPAM knows its addresses by the sandbox of the first one.
  const guest = await startGuest(t, node, way, { name: 'adopted' });
  await guest.console.ask(
    'printf kept | dd of=/dev/vda bs=512 seek=140000 conv=notrunc,fsync; echo w$((1))',
    /w1/,
  );
  guest.console[Symbol.dispose]();
  const first = { ...guest, attempt: 0 };
  await killShim(node, first);
  const adopted = await recreate(t, node, first);
  const { nics } = vmRecord(containerd, adopted.vm.id, 'k8s.io');

  // One that waits for its next shim.
  const waiting = await CriPod.run(t, node, { name: 'orphan' });
  const orphan = { pod: waiting, vm: await waiting.start(), attempt: 0 };
  await killShim(node, orphan);
  await waiting.remove();

  // One that is switched off, with variables of its firmware.
  const off = await CriPod.run(t, node, { name: 'off' });
  const { kernelBoot } = await vmImage();
  const uefi = { 'vmshim.io/memory': '128Mi', 'vmshim.io/firmware': 'uefi', ...kernelBoot };
  const stopped = { pod: off, vm: await off.start({ annotations: uefi }), attempt: 0 };
  await containerd.vmctl('stop', stopped.vm.id, '--force');
  const kept = (): object[] =>
    ['nvram.fd', 'power-off'].map((name) => {
      const { ino, size, mtimeMs } = statSync(join(data, 'pods', off.config.metadata.uid, 'guest', name));
      return { ino, size, mtimeMs };
    });
  const before = kept();
  t.equal(leased().length, 6, 'two addresses each');
  t.equal(notes().length, 2, 'of guests that outlived their sandboxes');

  await rebootNode(node, new Random(6), 'gone');
  t.same(kept(), before);

  // What kubelet does with the pods that it finds ended.
  const again = await recreate(t, node, adopted);
  const next = await CriPod.run(t, node, { name: 'orphan', uid: waiting.config.metadata.uid, attempt: 1 });
  const still = await recreate(t, node, stopped, { annotations: uefi });
  const sandboxes = [again.pod.id, next.id, still.pod.id];
  t.same(leased().toSorted(), [...sandboxes, ...sandboxes].toSorted(), 'none is lost');
  t.same(notes(), []);

  await again.vm.log.until(/vmguest: ready/);
  using console = await again.vm.attach();
  await console.ask(
    'dd if=/dev/vda bs=512 skip=140000 count=1 2>/dev/null | head -c 4; echo " r$((1))"',
    /kept r1/,
  );
  t.same(
    vmRecord(containerd, again.vm.id, 'k8s.io').nics.map(({ tap, guest: { mac } }) => ({ tap, mac })),
    nics.map(({ tap, guest: { mac } }) => ({ tap, mac })),
    'the same names and MAC addresses',
  );
  t.equal(await powerOf(still.vm.id), 'off');
  t.same(kept(), before, 'nothing of it was written');
  await next.start();
  const directories = readdirSync(join(containerd.directory, 'vms')).filter((name) =>
    /^[0-9a-f]{20}$/.test(name),
  );
  t.equal(directories.length, 3, 'no VM of the boot before has left anything');

  for (const pod of [again.pod, next, still.pod]) await pod.remove();
  t.same(leased(), []);
  // Nobody calls `delete` for VMs of the boot before, whose records went with it: their console logs are garbage.
  await nodeVmctl(node, 'gc', '--grace', '0s');
  t.same(readdirSync(join(data, 'vms')), []);
});
