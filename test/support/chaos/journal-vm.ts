import { randomUUID } from 'node:crypto';
import type { CriNode } from '../cri-containerd.ts';
import { type CriContainer, CriPod } from '../cri-pod.ts';
import { processEnded } from '../shim-client.ts';
import type { Teardown } from '../temp-dir.ts';
import { vmImage } from '../vm-image.ts';
import { pidOf, vmRecord } from '../vm-record.ts';
import { BLOCK_BYTES } from './guest-model.ts';
import { checkOverlay } from './overlay-check.ts';

/** MiB: behind the partition of the test guest's disk. */
const JOURNAL_AT = 64;

/** The processes of a VM that runs, and the file that holds its data. */
export interface VmParts {
  readonly qemu: number;
  readonly shim: number;
  readonly overlay: string;
}

/**
 * A pod whose guest keeps a journal on its root disk (scripts/guest/journal.c). It knows the last generation that the guest
 * has called flushed, and every boot has the guest prove that all up to that one is still there.
 */
export class JournalVm {
  readonly node: CriNode;
  readonly #t: Teardown;
  readonly #seed: number;
  readonly #uid = randomUUID();
  #podAttempt = 0;
  #attempt = 0;
  #pod: CriPod | undefined;
  #container: CriContainer | undefined;
  #parts: VmParts | undefined;
  #flushed = 0;
  #leaked = 0;
  #boots = 0;
  #verified = 0;

  constructor(t: Teardown, node: CriNode, seed: number) {
    this.#t = t;
    this.node = node;
    this.#seed = seed;
  }

  /** The last generation that was seen as flushed. */
  get flushed(): number {
    return this.#flushed;
  }

  /** Clusters of the overlay that killed QEMUs have leaked so far. */
  get leaked(): number {
    return this.#leaked;
  }

  /** How often its guest has booted and looked at its disk. */
  get boots(): number {
    return this.#boots;
  }

  /** Bytes that these boots have found as they had been flushed. */
  get verified(): number {
    return this.#verified;
  }

  get container(): CriContainer {
    if (this.#container === undefined) throw new Error('the pod has no container now');
    return this.#container;
  }

  get parts(): VmParts {
    if (this.#parts === undefined) throw new Error('the VM does not run now');
    return this.#parts;
  }

  /** The pod, which is run if there is none. */
  async pod(): Promise<CriPod> {
    this.#pod ??= await CriPod.run(this.#t, this.node, {
      name: 'data-0',
      uid: this.#uid,
      attempt: this.#podAttempt++,
    });
    return this.#pod;
  }

  /** Makes a new container without starting it. */
  async create(): Promise<CriContainer> {
    const { kernelBoot } = await vmImage();
    const cmdline = kernelBoot['vmshim.io/cmdline'] ?? '';
    const journal = `journal run /dev/vda ${JOURNAL_AT} ${this.#seed} ${this.#flushed}`;
    const annotations = {
      ...kernelBoot,
      // Each fault is followed by a boot, which proves what is on the disk.
      'vmshim.io/on-shim-death': 'kill',
      'vmshim.io/memory': '96Mi',
      'vmshim.io/cmdline': `${cmdline} vmguest.run="${journal}"`,
    };
    const pod = await this.pod();
    this.#container = await pod.create({ annotations, attempt: this.#attempt++ });
    return this.#container;
  }

  /** Boots and waits until the guest has found all that it was told to be flushed. Rejects with what it misses. */
  async boot(): Promise<void> {
    const container = await this.create();
    await container.start();
    const record = vmRecord(this.node.containerd, container.id, 'k8s.io');
    if (record.rootDisk === undefined) throw new Error('the VM has no root disk');
    this.#parts = { qemu: pidOf(record.qemu), shim: pidOf(record.shim), overlay: record.rootDisk };
    const [said] = await container.log.until(/journal (?:ok|BAD|failed).*(?=[\r\n])/);
    const [, blocks] = /^journal ok: (\d+) blocks /.exec(said) ?? [];
    if (blocks === undefined) throw new Error(said);
    this.#boots++;
    this.#verified += Number(blocks) * BLOCK_BYTES;
  }

  /** Waits until the guest has flushed so many generations more than were seen so far. */
  async writes(generations: number): Promise<void> {
    const wanted = this.look() + generations;
    // A containerd that is killed may take a line with it that it has read but not written.
    const any = Array.from({ length: 64 }, (_, i) => wanted + i).join('|');
    const [said] = await this.container.log.until(
      new RegExp(`^(?:flushed (?:${any})\\r?$|.*journal failed.*)`, 'm'),
    );
    if (said.startsWith('journal failed')) throw new Error(said);
    this.look();
  }

  /** Takes note of what the guest has flushed, and gives the last generation. */
  look(): number {
    const said = this.#container?.log.text.matchAll(/^flushed (\d+)\r?$/gm) ?? [];
    for (const [, generation] of said) this.#flushed = Math.max(this.#flushed, Number(generation));
    return this.#flushed;
  }

  /** After QEMU has been made to end: takes what was flushed, and has qemu-img look at the overlay. */
  async ended(): Promise<void> {
    const { qemu, overlay } = this.parts;
    await processEnded(qemu);
    this.look();
    const { errors, leaks } = await checkOverlay(this.node.network, overlay);
    if (errors > 0) throw new Error(`qemu-img check finds ${errors} errors in ${overlay}`);
    this.#leaked = leaks;
    this.#parts = undefined;
  }

  /** Removes the container that has ended, as kubelet does before or after it makes the next. */
  async removeContainer(): Promise<void> {
    await this.#container?.remove();
    this.#container = undefined;
  }

  /** Stops and removes the pod, running or not; the next boot makes one with the same UID. */
  async removePod(): Promise<void> {
    await this.#pod?.remove();
    this.look();
    this.#container = undefined;
    this.#pod = undefined;
  }
}
