/** A guest whose memory limit is raised while it runs gets RAM plugged in, and gives it back, within what its node has. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import t from 'tap';
import { controllerDir, planCgroup } from '../../src/host/cgroup-plan.ts';
import { detectCgroupLayout } from '../../src/host/cgroup-layout.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { parseLedger } from '../../src/numa/ledger-file.ts';
import { readNodeIds, readTopology } from '../../src/numa/topology.ts';
import { ACCEL } from '../support/machine-traits.ts';
import { refused } from '../support/refused.ts';
import { ShimClient } from '../support/shim-client.ts';
import { vmctl } from '../support/vm-image.ts';

const MIB = 2 ** 20;
const host = new LinuxHost();
const [node = 0] = readNodeIds(host);

const limitOf = (mib: number) => ({
  typeUrl: 'LinuxResources',
  value: Buffer.from(JSON.stringify({ memory: { limit: mib * MIB } })),
});

void t.test('RAM grows and shrinks with the limit', async (t) => {
  const nodeBytes = readTopology(host).nodes.find(({ id }) => id === node)?.memoryBytes ?? 0;
  // Of its node 600 MiB are for VMs.
  const threshold = ((600 * MIB) / nodeBytes).toFixed(6);
  const shims = await ShimClient.make(t, { shimConfig: `[numa]\nmemory_threshold = ${threshold}` });
  const annotations = {
    'vmshim.io/accel': ACCEL,
    'vmshim.io/memory': '256Mi',
    'vmshim.io/max-memory': '1Gi',
    'vmshim.io/numa': String(node),
  };
  const shim = await shims.shim('growing', { annotations });
  const { id, task } = shim;
  const io = shims.io(id);
  const ask = async (line: string, answer: RegExp): Promise<RegExpExecArray> => {
    const from = io.console.text.length;
    io.type(line);
    return await io.console.until(answer, from);
  };
  const total = async (): Promise<number> => Number((await ask('mem', /MemTotal: +(\d+) kB\r?\n/))[1]) / 1024;
  const claimed = (): number => {
    const [entry] = parseLedger(readFileSync(join(shims.directory, 'vms/numa.json'), 'utf8')) ?? [];
    return (entry?.claim.shares[0]?.memoryBytes ?? 0) / MIB;
  };
  const limit = (): number => {
    const cgroup = planCgroup(detectCgroupLayout(host), `/${shims.namespace}/${id}`, id);
    const { dir, hierarchy } = controllerDir(cgroup, 'memory')!;
    const file = hierarchy.version === 1 ? 'memory.limit_in_bytes' : 'memory.max';
    return Number(readFileSync(join(dir, file), 'utf8')) / MIB;
  };
  const status = async (): Promise<{ memoryBytes: number; maxMemoryBytes: number; warnings: string[] }> => {
    const env = { VMSHIM_CONFIG: join(shims.directory, 'vmshim.toml') };
    const { stdout } = await execa(vmctl, ['status', id, '--json'], { env });
    return JSON.parse(stdout) as Awaited<ReturnType<typeof status>>;
  };
  const has = async (): Promise<number> => (await status()).memoryBytes / MIB;
  const until = async (enough: (mib: number) => boolean): Promise<void> => {
    // The guest takes its time; each answer of its console tells how far it is.
    while (!enough(await has())) await ask('echo look $((6 * 7))', /look 42\s/);
  };
  const loadDriver = async (): Promise<void> => {
    await ask(
      'echo online_movable >/sys/devices/system/memory/auto_online_blocks; modprobe virtio_mem && echo loaded $((6 * 7))',
      /loaded 42\s/,
    );
  };

  await task.create({ id, bundle: shim.bundle, ...io.request });
  await task.start({ id });
  await io.console.until('vmguest: ready');
  const before = { total: await total(), limit: limit() };
  t.equal(claimed(), 256);

  await t.test('a guest without the driver is told of, and has been counted', async (t) => {
    await task.update({ id, resources: limitOf(512) });
    t.equal(claimed(), 512);
    t.equal(limit(), before.limit + 256);
    const { warnings, ...rest } = await status();
    t.match(rest, { memoryBytes: 256 * MIB, maxMemoryBytes: 1024 * MIB });
    t.match(
      warnings.filter((warning) => warning.includes('RAM')),
      [/asked to have 512 MiB of RAM and has 256 MiB so far: it needs the driver virtio_mem/],
    );
  });

  await t.test('one with the driver has it', async (t) => {
    await loadDriver();
    await until((mib) => mib === 512);
    // What is plugged is online a moment later.
    while ((await total()) < before.total + 240);
    t.notMatch((await status()).warnings.join(), /RAM/);
  });

  await t.test(
    'more than its node has, or than it was made for, is refused and changes nothing',
    async (t) => {
      await refused(
        t,
        task.update({ id, resources: limitOf(700) }),
        'ResourceExhausted',
        /memory cannot grow to 700Mi: the VM’s node \d+ has (599|600)Mi for it/,
      );
      await refused(
        t,
        task.update({ id, resources: limitOf(1100) }),
        'FailedPrecondition',
        /memory cannot grow to 1100Mi: .*vmshim\.io\/max-memory of 1100Mi or more/,
      );
      t.same([claimed(), limit()], [512, before.limit + 256]);
      t.match(await status(), { memoryBytes: 512 * MIB });
    },
  );

  await t.test('what it gives back is the node’s again', async (t) => {
    await task.update({ id, resources: limitOf(256) });
    // A page that cannot be moved may hold back a few blocks for long.
    await until((mib) => mib < 320);
    while ((await total()) > before.total + 70);
    // The books are written after the status tells.
    while (claimed() !== (await has())) await ask('echo look $((6 * 7))', /look 42\s/);
    t.equal(limit() - before.limit, claimed() - 256);
    t.ok(claimed() < 320, `${claimed()} MiB`);
  });

  await t.test('a guest that boots again has what was asked for', async (t) => {
    await task.update({ id, resources: limitOf(512) });
    await until((mib) => mib === 512);
    const from = io.console.text.length;
    io.type('reboot');
    await io.console.until('vmguest: ready', from);
    await loadDriver();
    await until((mib) => mib === 512);
    t.equal(claimed(), 512);
  });

  await shims.remove(shim);
});
