import { setTimeout as delay } from 'node:timers/promises';
import { type CriNode, importGuest } from '../cri-containerd.ts';
import { patience } from '../machine-traits.ts';
import { vmImage } from '../vm-image.ts';
import { nodeVmctl } from './node-vmctl.ts';
import type { Random } from './random.ts';

const GC_RUNS = 3;
/** Longer than containerd is away for anything that is done to it. */
const IMPORT_MS = patience(120_000);
const PAUSE_MS = 200;

/**
 * Everything that takes away from a node what nobody needs, at once: kubelet's removal of an image, containerd's collection of
 * what only that image kept, and `vmctl gc` without a grace, several times.
 * @throws when the image's content is there still, so that nothing was proved.
 */
export async function collectEverything(node: CriNode, random: Random): Promise<void> {
  const { name } = await vmImage();
  const before = await blobs(node);
  // Drawn here: which of the two goes on first is not the seed's.
  const removalAfter = random.below(500);
  const pauses = Array.from({ length: GC_RUNS }, () => random.below(300));
  const removal = async (): Promise<void> => {
    await delay(removalAfter);
    await node.cri.call('RemoveImage', { image: { image: name } });
    // As containerd does by itself some time later.
    await node.containerd.ctr('--namespace', 'k8s.io', 'content', 'prune', 'references');
  };
  const collection = async (): Promise<void> => {
    for (const pause of pauses) {
      await delay(pause);
      await nodeVmctl(node, 'gc', '--grace', '0s');
    }
  };
  const [removed, collected] = await Promise.allSettled([removal(), collection()]);
  for (const result of [removed, collected]) if (result.status === 'rejected') throw result.reason;
  const after = await blobs(node);
  if (after >= before)
    throw new Error(`containerd has ${after} blobs and had ${before}: nothing was collected`);
}

/** Brings the test guest's image back, also where containerd is away for a while. */
export async function restoreImage(node: CriNode): Promise<void> {
  const deadline = Date.now() + IMPORT_MS;
  for (;;) {
    try {
      await importGuest(node);
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await delay(PAUSE_MS);
    }
  }
}

async function blobs({ containerd }: CriNode): Promise<number> {
  const { stdout } = await containerd.ctr('--namespace', 'k8s.io', 'content', 'ls', '--quiet');
  return stdout.split('\n').filter((line) => line !== '').length;
}
