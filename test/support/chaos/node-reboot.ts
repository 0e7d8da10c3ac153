import { randomUUID } from 'node:crypto';
import { globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type CriNode, criReady } from '../cri-containerd.ts';
import { processesOf } from '../leaks.ts';
import { processEnded } from '../shim-client.ts';
import type { Random } from './random.ts';

/** What a boot leaves in our `state_dir`: nothing where it is a tmpfs, else records that tell of another boot. */
export type StateAfterBoot = 'gone' | 'of another boot';

/**
 * A power cut and the boot after it: every process is killed, and what a node keeps in memory is gone, namely containerd's
 * state, sockets, mounts, network namespaces, links and cgroups. What is on disk stays. containerd goes first, so that it
 * has no chance to clean up, and the others in any order.
 */
export async function rebootNode(node: CriNode, random: Random, state: StateAfterBoot): Promise<void> {
  const { containerd, network, cgroups, cri } = node;
  const { directory } = containerd;
  await containerd.kill();
  const pids = random.shuffle(processesOf(directory).map(({ pid }) => pid));
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // A QEMU goes with its shim.
    }
  }
  for (const pid of pids) await processEnded(pid);

  // What a test has mounted on these is seen from within only.
  const below = (name: string): string => join(`${network.root}${directory}`, name);
  const kept = ['data', 'vms'].map((name) => join(directory, name));
  for (const mount of network.mounts(directory).reverse())
    if (!kept.includes(mount)) await network.run('umount', '-l', mount);
  await cgroups.reboot();
  for (const name of ['state', 's', 'fifo']) rmSync(below(name), { recursive: true, force: true });
  if (state === 'gone') for (const path of globSync(below('vms/*'))) rmSync(path, { recursive: true });
  else for (const record of globSync(below('vms/*/record.json'))) bootedSince(record);
  for (const note of globSync(below('data/leases/*.json'))) bootedSince(note);
  await containerd.start();
  await criReady(cri);
}

/** What an earlier boot's VMs left in a `state_dir` on disk: nobody calls `delete` for them, so they are garbage. */
export function removeEarlierBoots({ containerd }: CriNode): void {
  const now = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  for (const path of globSync(join(containerd.directory, 'vms/*/record.json'))) {
    const { bootId } = JSON.parse(readFileSync(path, 'utf8')) as { bootId: string };
    if (bootId !== now) rmSync(dirname(path), { recursive: true });
  }
}

/** The test cannot boot the kernel, so it makes a record, or the note of a lease, one of an earlier boot. */
function bootedSince(path: string): void {
  const record = JSON.parse(readFileSync(path, 'utf8')) as { bootId: string };
  writeFileSync(path, JSON.stringify({ ...record, bootId: randomUUID() }));
}
