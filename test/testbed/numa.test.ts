/** VMs on a machine of two NUMA nodes: where their memory, threads and guests are, and that the books are right. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import t, { type Test } from 'tap';
import type { NodeRow } from '../../src/control/numa-rows.ts';
import { criContainerd } from '../support/cri-containerd.ts';
import { hostLocal } from '../support/cri-node-network.ts';
import { CriPod } from '../support/cri-pod.ts';
import { type RunningShim, processEnded, ShimClient } from '../support/shim-client.ts';
import type { BundleOptions } from '../support/test-bundle.ts';
import { refused } from '../support/refused.ts';
import { vhostWorkers } from '../support/vhost-workers.ts';
import { vmctl, vmImage } from '../support/vm-image.ts';
import { vmRecord } from '../support/vm-record.ts';

const MIB = 2 ** 20;
const SIGKILL = 9;
const nodeFile = (id: number, file: string): string =>
  readFileSync(`/sys/devices/system/node/node${id}/${file}`, 'utf8').trim();
/** Of each NUMA node those that programs may run on: CPU 0, which is node 0's, is nobody's (scripts/node/plan-node.ts). */
const CPUS = [nodeFile(0, 'cpulist').replace(/^0-1$/, '1'), nodeFile(1, 'cpulist')];

/** A VM that waits for Start; its guest has not run yet. */
async function created(shims: ShimClient, id: string, options: BundleOptions = {}): Promise<RunningShim> {
  const memory = { 'vmshim.io/memory': '64Mi', ...options.annotations };
  const shim = await shims.shim(id, { ...options, annotations: memory });
  await shim.task.create({ id, bundle: shim.bundle }).catch(async (error: unknown) => {
    await shims.end(shim);
    throw error;
  });
  return shim;
}

function pidOf(shims: ShimClient, { id }: RunningShim): number {
  return vmRecord(shims, id, shims.namespace).qemu?.pid ?? 0;
}

function sharesOf(shims: ShimClient, { id }: RunningShim): number[] {
  return vmRecord(shims, id, shims.namespace).numa?.claim.shares.map(({ node }) => node) ?? [];
}

/** Policies of the guest's RAM in numa_maps(5): its mappings are those of a memfd that QEMU names so. */
function ramPolicies(pid: number): string[] {
  return readFileSync(`/proc/${pid}/numa_maps`, 'utf8')
    .split('\n')
    .filter((line) => line.includes('memfd:memory-backend-memfd'))
    .map((line) => line.split(' ')[1] ?? '');
}

/** Names in /proc of a process's threads. */
function taskNames(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map((tid) => `${pid}/task/${tid}`);
}

/** Of a thread by its name in /proc. */
function allowedCpus(thread: string): string | undefined {
  const status = readFileSync(`/proc/${thread}/status`, 'utf8');
  return /^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1];
}

function threads(pid: number): { name: string; cpus: string | undefined }[] {
  return taskNames(pid).map((thread) => ({
    name: readFileSync(`/proc/${thread}/comm`, 'utf8').trim(),
    cpus: allowedCpus(thread),
  }));
}

async function books(shims: ShimClient): Promise<NodeRow[]> {
  const { stdout } = await execa(vmctl, ['numa', '--json'], {
    env: { VMSHIM_CONFIG: join(shims.directory, 'vmshim.toml') },
  });
  return (JSON.parse(stdout) as { nodes: NodeRow[] }).nodes;
}

function assertOnNode(t: Test, shims: ShimClient, shim: RunningShim, node: number): void {
  const pid = pidOf(shims, shim);
  t.same(new Set(ramPolicies(pid)), new Set([`bind:${node}`]), `${shim.id}: RAM of node ${node}`);
  const wrong = threads(pid).filter(({ cpus }) => cpus !== CPUS[node]);
  t.same(wrong, [], `${shim.id}: every thread on node ${node}`);
}

void t.test('VMs made at once land on their nodes and never overshoot', async (t) => {
  const shims = await ShimClient.make(t, {
    shimConfig: '[numa]\ncpu_threshold = 16\nmemory_threshold = 0.37\noverflow = "refuse"',
  });
  const wanted = 20;
  const results = await Promise.allSettled(
    Array.from({ length: wanted }, async (_, i) => {
      const vm = await created(shims, `vm${i}`);
      t.comment(`${vm.id} is there`);
      return vm;
    }),
  );
  const vms = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  for (const result of results) {
    if (result.status === 'fulfilled') continue;
    t.match(result.reason, { message: /does not fit on any node/ });
  }
  t.equal(vms.length, 12, 'eight on the larger node, four on the other');
  const rows = await books(shims);
  t.comment(JSON.stringify(rows));
  for (const { node, memoryBytes } of rows) {
    t.ok(memoryBytes.used <= memoryBytes.limit, `node ${node} is within its limit`);
    t.ok(memoryBytes.limit - memoryBytes.used < 64 * MIB, `node ${node} is full`);
  }
  t.equal(
    rows.reduce((sum, { memoryBytes }) => sum + memoryBytes.used, 0),
    vms.length * 64 * MIB,
  );
  for (const vm of vms) assertOnNode(t, shims, vm, sharesOf(shims, vm)[0] ?? -1);

  const [first, second, ...others] = vms;
  const before = (await books(shims)).flatMap((row) => row.vms).length;
  process.kill(first!.pid, SIGKILL);
  await processEnded(first!.pid);
  await shims.delete(first!.id);
  t.equal((await books(shims)).flatMap((row) => row.vms).length, before - 1, 'a killed shim’s VM is out');
  const qemu = pidOf(shims, second!);
  process.kill(qemu, SIGKILL);
  await second!.task.wait({ id: second!.id });
  t.equal((await books(shims)).flatMap((row) => row.vms).length, before - 2, 'and one whose QEMU was killed');
  await second!.task.delete({ id: second!.id });
  await shims.end(second!);
  for (const vm of others) await shims.remove(vm);
  t.same(
    (await books(shims)).flatMap((row) => row.vms),
    [],
  );
});

void t.test('one VM of each kind', async (t) => {
  const shims = await ShimClient.make(t, { shimConfig: '[numa]\ncpu_threshold = 8' });

  await t.test('spread: the guest sees two nodes, its vCPUs are on theirs', async (t) => {
    const io = shims.io('spread');
    const shim = await shims.shim('spread', {
      annotations: {
        'vmshim.io/numa': 'spread',
        'vmshim.io/cpus': '2',
        'vmshim.io/memory': '256Mi',
        'vmshim.io/accel': 'kvm',
      },
    });
    await shim.task.create({ id: 'spread', bundle: shim.bundle, ...io.request });
    const pid = pidOf(shims, shim);
    t.same(new Set(ramPolicies(pid)), new Set(['bind:0', 'bind:1']));
    const vcpus = threads(pid).filter(({ name }) => name.startsWith('CPU '));
    t.same(
      vcpus.map(({ cpus }) => cpus),
      CPUS,
    );
    await shim.task.start({ id: 'spread' });
    await io.console.until(/vmguest: ready/);
    io.write(
      'cat /sys/devices/system/node/online /sys/devices/system/node/node1/cpulist /sys/devices/system/node/node1/distance\n',
    );
    await io.console.until(/0-1\r?\n1\r?\n21 10/);
    await shims.remove(shim);
  });

  await t.test('a chosen node, and a cpuset from kubelet that has another', async (t) => {
    for (const node of [0, 1]) {
      const chosen = await created(shims, `chosen${node}`, {
        annotations: { 'vmshim.io/numa': String(node) },
      });
      assertOnNode(t, shims, chosen, node);
      await shims.remove(chosen);
      const fixed = await created(shims, `static${node}`, { resources: { cpu: { cpus: CPUS[node] } } });
      assertOnNode(t, shims, fixed, node);
      // What kubelet's static CPU manager says to a container of the shared pool.
      const value = Buffer.from(JSON.stringify({ cpu: { cpus: CPUS.join() } }));
      await fixed.task.update({ id: fixed.id, resources: { typeUrl: 'LinuxResources', value } });
      assertOnNode(t, shims, fixed, node);
      await shims.remove(fixed);
    }
  });

  await t.test('huge pages of a node', async (t) => {
    const pool = '/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages';
    writeFileSync(pool, '40');
    t.teardown(() => writeFileSync(pool, '0'));
    const huge = {
      annotations: { 'vmshim.io/memory': '64Mi' },
      resources: { hugepageLimits: [{ pageSize: '2MB', limit: 64 * MIB }] },
    };
    const vm = await created(shims, 'huge', huge);
    assertOnNode(t, shims, vm, 1);
    t.match(readFileSync(`/proc/${pidOf(shims, vm)}/numa_maps`, 'utf8'), /bind:1 .*huge .*N1=32/);
    t.match((await books(shims))[1]?.hugepages, [{ usedBytes: 64 * MIB, limitBytes: 80 * MIB }]);
    await refused(t, created(shims, 'more', huge), 'FailedPrecondition', /QEMU did not start/);
    await shims.remove(vm);
  });
});

void t.test('dedicated CPUs are one VM’s alone', async (t) => {
  const shims = await ShimClient.make(t, { shimConfig: `[numa]\ndedicated_cpus = "${CPUS[1] ?? ''}"` });
  const dedicated = { annotations: { 'vmshim.io/cpu-pinning': 'dedicated' } };
  const vm = await created(shims, 'alone', dedicated);
  const vcpu = threads(pidOf(shims, vm)).find(({ name }) => name.startsWith('CPU 0'));
  t.equal(vcpu?.cpus, CPUS[1]);
  await refused(
    t,
    created(shims, 'second', dedicated),
    'ResourceExhausted',
    /does not fit|CPUs of their own/,
  );
  const shared = await created(shims, 'shared');
  assertOnNode(t, shims, shared, 0);
  await shims.remove(shared);
  await shims.remove(vm);
  await shims.remove(await created(shims, 'second', dedicated));
});

void t.test('the kernel’s vhost threads are on the VM’s node, as a pod’s cgroup is', async (t) => {
  const node = await criContainerd(t, {
    vmPlugins: (network, stateDir) => [
      { type: 'vm-tap', bridge: network.bridge, isGateway: true, stateDir, ipam: hostLocal(network) },
    ],
  });
  for (const place of [0, 1]) {
    const pod = await CriPod.run(t, node, { name: `vhost-${place}` });
    const { kernelBoot } = await vmImage();
    const vm = await pod.create({
      annotations: { ...kernelBoot, 'vmshim.io/memory': '64Mi', 'vmshim.io/numa': String(place) },
    });
    await vm.start();
    const status = JSON.parse((await node.containerd.vmctl('status', vm.id, '--json')).stdout) as {
      qemuPid: number;
      numa: string;
    };
    t.match(status.numa, `node ${place}, CPUs ${CPUS[place] ?? ''}, memory bound`);
    const workers = vhostWorkers(status.qemuPid);
    t.equal(workers.length, 1);
    for (const thread of [...workers, ...taskNames(status.qemuPid)]) {
      t.equal(allowedCpus(thread), CPUS[place], thread);
    }
    await pod.remove();
  }
});
