/**
 * A pod's guest outlives its shim: kubelet makes sandbox and container anew, and the new shim takes over the guest that runs,
 * which notices nothing. `VMSHIM_ADOPTIONS` says how many times in a row, 3 without it.
 */
import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type CriNode, criContainerd } from '../support/cri-containerd.ts';
import { startGuest, WAYS } from '../support/cri-ways.ts';
import { ExpectText } from '../support/expect-text.ts';
import { forgetPod, killShim, recreate, type RunningPod } from '../support/cri-recreate.ts';
import { processEnded } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const TIMES = Number(process.env['VMSHIM_ADOPTIONS'] ?? 3);
const ECHO = 7;
const way = WAYS['a TAP on the node’s bridge'];

const recordOf = ({ containerd }: CriNode, { vm }: RunningPod) => vmRecord(containerd, vm.id, 'k8s.io');

void t.test('a TAP on the node’s bridge', async (t) => {
  const node = await criContainerd(t, { vmPlugins: way.plugins });

  await t.test('the guest and its connections go on', async (t) => {
    const { pod, vm, console, addresses, mac } = await startGuest(t, node, way, {});
    await console.ask(`(nc -ll -p ${ECHO} -e cat &) && echo "echo $((1))"`, /echo 1/);
    await console.ask('(while sleep 0.2; do n=$((n + 1)); echo "count $n"; done &) && echo $((6 * 7))', /42/);
    console[Symbol.dispose]();
    const connection = node.network.connect(addresses[0] ?? '', ECHO);
    const echoed = new ExpectText(connection);
    t.teardown(() => connection.destroy());
    connection.write('before\n');
    await echoed.until('before\n');

    let running: RunningPod = { pod, vm, attempt: 0 };
    const { qemu } = recordOf(node, running);
    for (let round = 1; round <= TIMES; round++) {
      await killShim(node, running);
      t.ok(isRunning(pidOf(qemu)), 'the guest runs on without its shim');
      connection.write(`orphan ${round}\n`);
      await echoed.until(`orphan ${round}\n`);
      const old = running.pod;
      running = await recreate(t, node, running, { removeOld: round % 2 === 0 });
      t.same(await running.pod.addresses(), addresses, 'the new sandbox has the old addresses');
      // kubelet removes the old sandbox whenever it likes.
      await old.remove();
      const record = recordOf(node, running);
      t.same(record.qemu, qemu, 'the same QEMU');
      t.equal(record.nics[0]?.guest.mac, mac);
      connection.write(`adopted ${round}\n`);
      await echoed.until(`adopted ${round}\n`);
      await running.vm.log.until(/count \d+\n/);
      t.notMatch(running.vm.log.text, /vmguest: booting/, 'and the same boot');
      using attached = await running.vm.attach();
      await attached.ask('echo "console $((7 * 6))"', /console 42/);
    }
    const counted = [...readFileSync(consoleLog(node, running), 'latin1').matchAll(/count (\d+)\r/g)];
    t.ok(counted.length > 0, 'the console log goes on');
    await running.vm.stop(60);
    t.match(await running.vm.status(), { exitCode: 0 }, 'its end is told as any other’s');
    await running.pod.remove();
  });

  await t.test('its pod is deleted while there is no shim', async (t) => {
    const running = { ...(await startGuest(t, node, way, {})), attempt: 0 };
    running.console[Symbol.dispose]();
    const { qemu } = recordOf(node, running);
    await killShim(node, running);
    await running.pod.remove();
    t.ok(isRunning(pidOf(qemu)), 'kubelet may still make the pod anew');
    forgetPod(running.pod);
    await processEnded(pidOf(qemu));
  });

  await t.test('another kind of machine is asked for', async (t) => {
    const running = { ...(await startGuest(t, node, way, {})), attempt: 0 };
    running.console[Symbol.dispose]();
    const { qemu } = recordOf(node, running);
    await killShim(node, running);
    const { kernelBoot } = await (await import('../support/vm-image.ts')).vmImage();
    const annotations = { 'vmshim.io/memory': '160Mi', ...kernelBoot };
    const next = await recreate(t, node, running, { annotations });
    await next.vm.log.until(/vmguest: ready/);
    t.not(pidOf(recordOf(node, next).qemu), pidOf(qemu));
    t.notOk(isRunning(pidOf(qemu)), 'the old guest has ended before');
    await next.pod.remove();
  });
});

void t.test('nobody takes the guest over', async (t: Test) => {
  const node = await criContainerd(t, { vmPlugins: way.plugins, shimConfig: '[orphan]\ndeadline = 1\n' });
  const running = { ...(await startGuest(t, node, way, {})), attempt: 0 };
  running.console[Symbol.dispose]();
  const { qemu } = recordOf(node, running);
  await killShim(node, running);
  await processEnded(pidOf(qemu));
  await running.pod.remove();
});

function consoleLog(node: CriNode, running: RunningPod): string {
  return `${recordOf(node, running).logDir}/console.log`;
}

function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}
