/** containerd is upgraded in place, to the next series and the one after it, while a pod's VM runs. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { criContainerd, restartContainerd } from '../support/cri-containerd.ts';
import { CriPod } from '../support/cri-pod.ts';
import { vmRecord } from '../support/vm-record.ts';

const lines = (text: string): number[] => [...text.matchAll(/line (\d+)\r?\n/g)].map(([, n]) => Number(n));
const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);

void t.test('1.6, 1.7, 2.x', async (t) => {
  const node = await criContainerd(t);
  const pod = await CriPod.run(t, node);
  const vm = await pod.start({ stdin: true });
  await vm.log.until(/vmguest: ready/);
  const processes = (): unknown => {
    const { shim, qemu } = vmRecord(node.containerd, vm.id, 'k8s.io');
    return { shim, qemu };
  };
  const before = processes();
  /** What the shim has had of the guest. */
  const consoleLog = (): string => globSync(join(node.containerd.directory, 'data/vms/*/console.log')).join();
  const majors = [`${node.containerd.release.major}.${node.containerd.release.minor}`];

  for (const release of ['trixie', 'sid'] as const) {
    const from = lines(vm.log.text).length;
    using console = await vm.attach();
    await console.ask(`lines 40 0.05`, /line 5\r?\n/);
    // What a containerd has read and not yet written is gone with it. So the guest is silent when that one ends, and goes on
    // when nobody is there.
    await node.containerd.vmctl('pause', vm.id);
    const last = lines(readFileSync(consoleLog(), 'utf8')).at(-1);
    await vm.log.until(new RegExp(`(line ${last}\\r?\\n[^]*){${from / 40 + 1}}`));
    await node.containerd.kill();
    await node.containerd.vmctl('resume', vm.id);
    await restartContainerd(node, release);
    majors.push(`${node.containerd.release.major}.${node.containerd.release.minor}`);
    t.match(await pod.status(), { state: 'SANDBOX_READY' });
    t.match(await vm.status(), { state: 'CONTAINER_RUNNING' });
    t.same(processes(), before, 'the same shim and QEMU');
    await vm.log.until(new RegExp(`(line 40\\r?\\n[^]*){${from / 40 + 1}}`));
    t.same(lines(vm.log.text).slice(from), upTo(40), 'the log goes on without a gap');
    using again = await vm.attach();
    await again.ask('echo "console $((6 * 7))"', /console 42/);
  }
  t.comment(majors.join(' → '));
  t.equal(new Set(majors).size, 3);
  await vm.stop(60);
  t.match(await vm.status(), { state: 'CONTAINER_EXITED', exitCode: 0 });
  await pod.remove();
});
