/**
 * What must hold for the guest of one pod, whatever happens to the node: no flushed byte is lost and it boots exactly when
 * something was done that boots it. Pure: it only judges what is told to it.
 */

/** Bytes that the guest's journal flushes with each generation, and of each block that it verifies (scripts/guest/journal.c). */
export const BLOCK_BYTES = 4096;

/** Whether what is done to a VM boots its guest. */
export type Boots = 'never' | 'may' | 'must';

/** What a line of a guest's journal says. */
export type Said =
  /** A boot has begun and found all generations up to this one on its disk. */
  | { readonly t: 'holds'; readonly generation: number; readonly boot: number; readonly blocks: number }
  | { readonly t: 'flushed'; readonly generation: number; readonly boot: number }
  /** Its disk does not hold what it has to. */
  | { readonly t: 'bad'; readonly text: string }
  /** It was refused a read or a write, as all are that are under way when a guest powers itself off. */
  | { readonly t: 'failed'; readonly text: string };

export interface GuestModel {
  /** The last generation that the guest has called flushed. */
  readonly flushed: number;
  /** The guest's own number of its present boot; 0 before the first. */
  readonly boot: number;
  /** The same when the guest was last seen to write after all that was done to it. */
  readonly settledBoot: number;
  /** What has been done to it since. */
  readonly boots: Boots;
  /** How often it was started or reset since: so often can it have booted. */
  readonly starts: number;
  /** Bytes that boots have found on the disk as they should be. */
  readonly verified: number;
}

/** A guest on a new disk that was not booted yet. */
export const NEW_GUEST: GuestModel = {
  flushed: 0,
  boot: 0,
  settledBoot: 0,
  boots: 'must',
  starts: 0,
  verified: 0,
};

/** What it comes to, and what must not have happened. */
export interface Judgement {
  readonly model: GuestModel;
  readonly violations: readonly string[];
}

const RANK: readonly Boots[] = ['never', 'may', 'must'];

/** Something is about to be done to the VM. */
export function expectBoots(model: GuestModel, boots: Boots): GuestModel {
  return { ...model, boots: RANK.indexOf(boots) > RANK.indexOf(model.boots) ? boots : model.boots };
}

/** The VM is about to be started or reset. */
export function countStart(model: GuestModel): GuestModel {
  return { ...model, starts: model.starts + 1 };
}

/** A line that a guest's journal wrote, or undefined for others and for those that lost a part on their way. */
export function parseSaid(line: string): Said | undefined {
  // The session's prompt may stand before what a boot says first.
  const holds = /journal holds (\d+) boot (\d+) blocks (\d+) =\1$/.exec(line);
  if (holds !== null)
    return { t: 'holds', generation: Number(holds[1]), boot: Number(holds[2]), blocks: Number(holds[3]) };
  const flushed = /^flushed (\d+) boot (\d+) =\1$/.exec(line);
  if (flushed !== null) return { t: 'flushed', generation: Number(flushed[1]), boot: Number(flushed[2]) };
  if (line.includes('journal BAD')) return { t: 'bad', text: line };
  if (line.includes('journal failed')) return { t: 'failed', text: line };
  return undefined;
}

/** The guest has said something. */
export function hear(model: GuestModel, said: Said): Judgement {
  switch (said.t) {
    case 'bad':
      return { model, violations: [`data is lost: ${said.text}`] };
    case 'failed':
      return { model, violations: model.boots === 'never' ? [`its disk failed: ${said.text}`] : [] };
    case 'holds':
      return hearBoot(model, said);
    case 'flushed':
      return hearFlushed(model, said);
  }
}

/** The guest goes on writing after what was done to it. */
export function settle(model: GuestModel): Judgement {
  const booted = model.boot - model.settledBoot;
  const violations: string[] = [];
  if (model.boots === 'must' && booted === 0)
    violations.push(`boot ${model.boot} goes on, it should have ended`);
  if (model.boots !== 'never' && booted > model.starts)
    violations.push(`it booted ${booted} times and was started ${model.starts} times`);
  return { model: { ...model, settledBoot: model.boot, boots: 'never', starts: 0 }, violations };
}

function hearBoot(model: GuestModel, { generation, boot, blocks }: Said & { t: 'holds' }): Judgement {
  const violations = generation < model.flushed ? [lost(model, generation, boot)] : [];
  if (boot <= model.boot)
    violations.push(`boot ${boot} came after boot ${model.boot}: the disk is an older one`);
  else violations.push(...unexpectedBoot(model, boot));
  const verified = model.verified + blocks * BLOCK_BYTES;
  return { model: { ...model, boot, verified, flushed: Math.max(model.flushed, generation) }, violations };
}

function hearFlushed(model: GuestModel, { generation, boot }: Said & { t: 'flushed' }): Judgement {
  // Lines of the present boot may be read again from the log of a container that ended, those of an earlier one late.
  if (boot <= model.boot)
    return { model: { ...model, flushed: Math.max(model.flushed, generation) }, violations: [] };
  // What the boot said first was lost with a containerd. A guest never goes on before it found all up to the last one.
  const violations = generation <= model.flushed ? [lost(model, generation - 1, boot)] : [];
  violations.push(...unexpectedBoot(model, boot));
  return { model: { ...model, boot, flushed: Math.max(model.flushed, generation) }, violations };
}

function unexpectedBoot(model: GuestModel, boot: number): string[] {
  return model.boots === 'never' ? [`boot ${boot} began and nothing was done that boots the guest`] : [];
}

function lost({ flushed }: GuestModel, generation: number, boot: number): string {
  return `boot ${boot} found generations up to ${generation}, and ${flushed} was flushed: data is lost`;
}
