/**
 * The installed node agent and `kubectl vm` with a real VM under containerd's CRI; only the API server stands in.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { poweredOn, powerStatus } from '../support/agent-lab.ts';
import { AgentProcess, kubectlVm } from '../support/agent-process.ts';
import { criContainerd } from '../support/cri-containerd.ts';
import { CriPod } from '../support/cri-pod.ts';
import { KubeServer } from '../support/kube-server.ts';

void t.test('a VM, its agent and its operator', async (t) => {
  const node = await criContainerd(t);
  const { containerd } = node;
  const config = join(containerd.directory, 'vmshim.toml');
  const kube = await KubeServer.start(t);
  const env = { VMSHIM_CONFIG: config };
  const start = (): AgentProcess =>
    new AgentProcess(t, kube, env, '--containerd', containerd.address, '--gc-grace', '0s');
  let agent = start();
  await agent.log.until(/the API server answers/);

  const pod = await CriPod.run(t, node, { name: 'a' });
  const { uid } = pod.config.metadata;
  kube.addPod({ name: 'a', uid });
  // Another pod of the node, without which nothing says that its name is right.
  kube.addPod({ name: 'other', uid: 'uid-other' });
  mkdirSync(join(node.kubeletDir, 'pods', 'uid-other'), { recursive: true });
  const vm = await pod.start({ stdin: true });
  await kube.until(() => poweredOn(kube).status === 'True');
  await vm.log.until(/vmguest: ready/);

  await t.test('power through the API server', async (t) => {
    t.match(await kubectlVm(kube, 'pause', 'a'), { status: 0, stdout: 'pod/a pause: done' });
    await kube.until(() => poweredOn(kube).reason === 'Paused');
    const again = await kubectlVm(kube, 'nmi', 'a');
    t.match(again, { status: 1, stderr: /pod\/a nmi: failed: cannot send an NMI/ });
    t.match(await kubectlVm(kube, 'resume', 'a'), { status: 0 });
    await kube.until(() => poweredOn(kube).status === 'True');
    t.match(await kubectlVm(kube, 'reset', 'a'), { status: 0 });
    await vm.log.until(/vmguest: ready[^]*vmguest: ready/);
    t.match(await kubectlVm(kube, 'list'), {
      status: 0,
      stdout: /^NAME.*\na +Running +on +reset done +node-1/,
    });
    t.match(await kubectlVm(kube, 'status', 'a'), { status: 0, stdout: /answer +done/ });
    t.match(await kubectlVm(kube, 'stop', 'b'), { status: 3, stderr: /there is no pod "b"/ });
    t.match(await kubectlVm(kube, 'stpo', 'a'), { status: 2, stderr: /no command "stpo"/ });
  });

  await t.test('metrics', async (t) => {
    const metrics = await agent.page('/metrics');
    const value = (name: string): number =>
      Number(new RegExp(`^${name}\\{namespace="default",pod="a"[^}]*\\} (\\S+)$`, 'm').exec(metrics)?.[1]);
    t.equal(value('vmshim_vm_ram_bytes'), 128 << 20);
    t.ok(value('vmshim_vm_cpu_seconds_total') > 0.01);
    const guest = value('vmshim_vm_guest_memory_bytes');
    t.ok(guest > 8 << 20 && guest <= 160 << 20, `guest RAM: ${guest}`);
    const overhead = value('vmshim_vm_overhead_bytes');
    t.ok(overhead > 4 << 20 && overhead < 512 << 20, `overhead: ${overhead}`);
    t.ok(value('vmshim_vm_shim_memory_bytes') > 1 << 20);
    t.match(
      metrics,
      /vmshim_vm_network_receive_bytes_total\{namespace="default",pod="a"[^}]*interface="eth0"\}/,
    );
  });

  await t.test('a killed agent leaves the VM alone, and the next one goes on', async (t) => {
    const pid = /QEMU pid +(\d+)/.exec(
      (await containerd.vmctl('status', vm.id, '--namespace', 'k8s.io')).stdout,
    )?.[1];
    await agent.end('SIGKILL');
    kube.annotate('a', 'vmshim.io/power-request', '{"id":"7","action":"pause"}');
    t.ok(existsSync(`/proc/${pid ?? ''}`));
    agent = start();
    await kube.until(() => powerStatus(kube).id === '7' && powerStatus(kube).phase === 'done');
    await kube.until(() => poweredOn(kube).reason === 'Paused');
    const memory = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${agent.pid}/status`, 'utf8'))?.[1];
    t.ok(Number(memory) < 96 << 10, `the agent's own memory: ${memory ?? ''} KiB`);
    t.match(await kubectlVm(kube, 'resume', 'a'), { status: 0 });
  });

  await t.test('what a pod leaves goes when the API server says that the pod is gone', async (t) => {
    const disks = join(containerd.directory, 'data/pods', uid);
    t.ok(existsSync(disks));
    await vm.stop(0);
    await pod.remove();
    rmSync(pod.directory, { recursive: true });
    // Its pod exists as far as anybody can tell.
    kube.outage = 503;
    kube.breakConnections();
    t.match(await agent.page('/metrics'), /vmshim_agent_gc_runs_total/);
    t.ok(existsSync(disks), 'nothing is removed in an outage');
    kube.outage = undefined;
    kube.deletePod('a');
    await agent.log.until(/garbage was removed/);
    t.notOk(existsSync(disks));
  });

  t.same(await agent.end('SIGTERM'), { exitCode: 0, signal: null });
  t.match(agent.log.text, /the agent ends; VMs go on/);
});
