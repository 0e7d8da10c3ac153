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
import { processEnded } from '../support/shim-client.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

void t.test('a VM, its agent and its operator', async (t) => {
  const node = await criContainerd(t);
  const { containerd } = node;
  const config = join(containerd.directory, 'vmshim.toml');
  const kube = await KubeServer.start(t);
  // As in a container, which has not all of the node's file systems: it sees none of the disks.
  const data = join(containerd.directory, 'data');
  mkdirSync(data, { recursive: true });
  const hide = 'mount -t tmpfs tmpfs "$0" && exec "$@"';
  const around = {
    env: { VMSHIM_CONFIG: config },
    launcher: ['unshare', '--mount', '--propagation=private', 'sh', '-c', hide, data],
  };
  const options = ['--containerd', containerd.address, '--gc-grace', '0s'];
  const start = (): AgentProcess =>
    new AgentProcess(t, kube, around, ...options, '--mount-namespace', `/proc/${process.pid}/ns/mnt`);
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
  t.same(vmRecord(containerd, vm.id, 'k8s.io').pod, { namespace: pod.config.metadata.namespace, name: 'a' });

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

  await t.test('off and on by annotation, while watches break and the agent is killed', async (t) => {
    const booted = (vm.log.text.match(/vmguest: ready/g) ?? []).length;
    const { qemu } = vmRecord(containerd, vm.id, 'k8s.io');
    using console = await vm.attach();
    const request = (id: string, action: string, more: object = {}): void =>
      kube.annotate('a', 'vmshim.io/power-request', JSON.stringify({ id, action, ...more }));
    const said = (id: string, phase: string): boolean =>
      powerStatus(kube).id === id && powerStatus(kube).phase === phase;

    // The watch has to begin anew, from a list: what it would go on from is forgotten.
    kube.bookmark();
    kube.breakConnections();
    kube.compact();
    // Nobody reacts to its power button any more: the stop lasts until we let it end.
    await console.ask('hang', /deaf to the power button/);
    // Dead before it hears that its word was written, and so before it could ask the VM.
    const first = agent;
    kube.beforePatch.push(() => {
      process.kill(first.pid, 'SIGKILL');
    });
    request('off', 'stop', { graceSeconds: 3600 });
    await kube.until(() => said('off', 'running'));
    await first.end('SIGKILL');
    t.equal(poweredOn(kube).status, 'True', 'the VM was not asked yet');

    agent = start();
    await kube.until(() => poweredOn(kube).reason === 'Stopping');
    // Dead again, while the VM is at it; what is done meanwhile is told by the next one.
    await agent.end('SIGKILL');
    console.type('poweroff');
    await processEnded(pidOf(qemu));
    t.ok(said('off', 'running'));
    // Somebody else changes the pod while its status is written.
    kube.beforePatch.push(() => kube.annotate('a', 'example.test/other', 'changed'));
    agent = start();
    await kube.until(() => said('off', 'done'));
    await kube.until(() => poweredOn(kube).reason === 'PoweredOff');
    t.equal(poweredOn(kube).status, 'False');
    t.equal(kube.pod('a').metadata.annotations['example.test/other'], 'changed');

    const requests = vmRecord(containerd, vm.id, 'k8s.io').power?.requests ?? [];
    t.same(
      requests.filter(({ id }) => id === 'off').map(({ action, phase }) => ({ action, phase })),
      [{ action: 'stop', phase: 'done' }],
      'asked once or twice, done once',
    );
    t.match(await vm.status(), { state: 'CONTAINER_RUNNING' });
    t.match(await pod.status(), { state: 'SANDBOX_READY' });
    const metrics = await agent.page('/metrics');
    t.match(metrics, /^vmshim_vm_state\{[^}]*pod="a"[^}]*state="off"\} 1$/m);
    t.match(metrics, /^vmshim_vm_guest_memory_bytes\{[^}]*\} 0$/m, 'no guest has memory');
    const memory = /^vmshim_vm_memory_bytes\{[^}]*\} (\d+)$/m.exec(metrics)?.[1];
    t.ok(Number(memory) < 64 << 20, `what is charged to the VM that is off: ${memory ?? 'nothing'} bytes`);

    kube.goneByStatus = true;
    kube.breakConnections();
    kube.compact();
    request('on', 'start');
    await kube.until(() => said('on', 'done'));
    await kube.until(() => poweredOn(kube).status === 'True');
    await vm.log.until(new RegExp(`(vmguest: ready[^]*){${booted + 1}}`));
    t.not(pidOf(vmRecord(containerd, vm.id, 'k8s.io').qemu), pidOf(qemu));
    // The same request once more, as a controller does that has forgotten.
    request('on', 'start');
    request('unknown', 'explode');
    await kube.until(() => said('unknown', 'failed'));
    t.match(powerStatus(kube).message, /"explode"/);
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
    const total = value('vmshim_guest_memory_total_bytes');
    t.ok(total > 64 << 20 && total < 128 << 20, `the guest’s kernel has ${total}`);
    t.ok(value('vmshim_guest_memory_available_bytes') < total);
    t.equal(value('vmshim_vm_max_ram_bytes'), 128 << 20);
    const nodes = (kind: string): number[] =>
      [
        ...metrics.matchAll(
          new RegExp(`^vmshim_numa_node_memory_${kind}_bytes\\{node="\\d+"\\} (\\d+)$`, 'gm'),
        ),
      ].map(([, bytes]) => Number(bytes));
    t.equal(
      nodes('claimed').reduce((a, b) => a + b, 0),
      128 << 20,
    );
    t.ok(nodes('limit').every((bytes) => bytes > 128 << 20));
    t.match(metrics, /^vmshim_vm_numa_vcpus\{namespace="default",pod="a"[^}]*,node="\d+"\} 1$/m);
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
