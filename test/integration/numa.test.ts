/**
 * Places and books of VMs on a machine with any number of memory nodes: what needs two is in test/testbed/numa.test.ts.
 * No guest is let run.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import t from 'tap';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { parseLedger } from '../../src/numa/ledger-file.ts';
import { readNodeIds } from '../../src/numa/topology.ts';
import { refused } from '../support/refused.ts';
import { processEnded, type RunningShim, ShimClient } from '../support/shim-client.ts';
import { vmctl } from '../support/vm-image.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

const SIGKILL = 9;
const ids = readNodeIds(new LinuxHost());
const [node = 0] = ids;

void t.test('a VM on a node of its choice is in the books as long as it lives', async (t) => {
  const shims = await ShimClient.make(t);
  const path = join(shims.directory, 'vms/numa.json');
  const entries = () => parseLedger(readFileSync(path, 'utf8')) ?? [];
  const create = async (id: string, numa?: string): Promise<RunningShim> => {
    const shim = await shims.shim(id, numa === undefined ? {} : { annotations: { 'vmshim.io/numa': numa } });
    await shim.task.create({ id, bundle: shim.bundle });
    return shim;
  };
  const numaOf = async (): Promise<{ nodes: { vms: string[]; memoryBytes: { used: number } }[] }> => {
    const env = { VMSHIM_CONFIG: join(shims.directory, 'vmshim.toml') };
    return JSON.parse((await execa(vmctl, ['numa', '--json'], { env })).stdout) as Awaited<
      ReturnType<typeof numaOf>
    >;
  };

  if (ids.length === 1) {
    const plain = await create('plain');
    t.notOk(existsSync(path), 'a machine with one node needs no books');
    t.match(await numaOf(), { nodes: [{ vms: ['plain'], memoryBytes: { used: 128 * 2 ** 20 } }] });
    await shims.remove(plain);
  }

  const chosen = await create('chosen', String(node));
  const { qemu, numa } = vmRecord(shims, 'chosen', shims.namespace);
  t.match(entries(), [{ key: vmRecord(shims, 'chosen', shims.namespace).key, owner: qemu }], 'QEMU’s own');
  t.match(numa, { ledger: path, claim: { shares: [{ node }] } });
  const maps = readFileSync(`/proc/${pidOf(qemu)}/numa_maps`, 'utf8').split('\n');
  const ram = maps.filter((line) => line.includes('memfd:memory-backend-memfd'));
  t.ok(ram.length > 0 && ram.every((line) => line.includes(` bind:${node} `)), ram.join('\n'));
  t.match(
    (await numaOf()).nodes.find(({ vms }) => vms.length > 0),
    { vms: ['chosen'] },
  );
  const status = await execa(vmctl, ['status', 'chosen'], {
    env: { VMSHIM_CONFIG: join(shims.directory, 'vmshim.toml') },
  });
  t.match(status.stdout, new RegExp(`NUMA +node ${node}, CPUs [\\d,-]+, memory bound`));

  await t.test('damaged books are written anew from the records', async (t) => {
    writeFileSync(path, '{"format": 1, "entr');
    const second = await create('second', String(node));
    t.same(
      entries().map(({ name }) => name),
      ['chosen', 'second'],
    );
    process.kill(pidOf(vmRecord(shims, 'second', shims.namespace).qemu), SIGKILL);
    await second.task.wait({ id: 'second' });
    t.match(
      (await numaOf()).nodes.flatMap(({ vms }) => vms),
      ['chosen'],
      'a dead QEMU has nothing',
    );
    await second.task.delete({ id: 'second' });
    t.same(
      entries().map(({ name }) => name),
      ['chosen'],
    );
    await shims.end(second);
  });

  await t.test('a killed shim’s VM is taken out by delete', async () => {
    process.kill(chosen.pid, SIGKILL);
    await processEnded(chosen.pid);
    await shims.delete('chosen');
    t.same(entries(), []);
  });

  await t.test('what cannot be is refused with the reason, and leaves nothing', async (t) => {
    const cases: [string, 'NotFound' | 'ResourceExhausted', RegExp][] = [
      ['4000', 'NotFound', /vmshim.io\/numa is "4000", but VMs can be placed on nodes/],
      ['near:no-such-card', 'NotFound', /the host has no such network interface/],
    ];
    if (ids.length === 1) cases.push(['spread', 'ResourceExhausted', /does not fit on several nodes/]);
    for (const [numa, kind, message] of cases.filter(
      ([numa]) => ids.length > 1 || !numa.startsWith('near'),
    )) {
      const id = `refused-${numa.replace(':', '-')}`;
      const shim = await shims.shim(id, { annotations: { 'vmshim.io/numa': numa } });
      await refused(t, shim.task.create({ id, bundle: shim.bundle }), kind, message);
      await shims.end(shim);
    }
    t.same(entries(), []);
  });
});
