import { VmError } from '../core/errors.ts';
import type { Host } from '../host/host.ts';
import { execInNetns, type Netns, runBatch } from './ip-command.ts';
import { checkLinkName } from './link-name.ts';
import { settleAll } from './settle-all.ts';

/** A TAP and the link it stands for, in the same network namespace. */
export interface Mirror {
  readonly netns: Netns;
  readonly tap: string;
  /** What a CNI plugin made: `eth0`. */
  readonly link: string;
  /** Bytes. */
  readonly mtu: number;
  /** What sends the guest's frames on: tc(8), or the spoof guard, which then must be applied as well. */
  readonly sender: 'tc' | 'guard';
}

/** What matches every frame: made for it, or the older classifier that every kernel has. */
export type Classifier = 'matchall' | 'u32';

/** Where our filter is among those of the link, so that a second run replaces it and undoing finds it. */
const PREFERENCE = '100';

/** Arguments of tc(8) that send what comes in on one link out on the other. Running them again changes nothing. */
export function planMirror({ tap, link, sender }: Mirror, classifier: Classifier): string[][] {
  const toGuest = redirect(link, tap, classifier);
  return sender === 'tc' ? [...toGuest, ...redirect(tap, link, classifier)] : toGuest;
}

function redirect(from: string, to: string, classifier: Classifier): string[][] {
  const match =
    classifier === 'matchall'
      ? ['handle', '1', 'matchall']
      : ['handle', '800::800', 'u32', 'match', 'u8', '0', '0'];
  return [
    ['qdisc', 'replace', 'dev', from, 'ingress'],
    [
      ...['filter', 'replace', 'dev', from, 'parent', 'ffff:', 'protocol', 'all', 'pref', PREFERENCE],
      ...match,
      ...['action', 'mirred', 'egress', 'redirect', 'dev', to],
    ],
  ];
}

/**
 * Brings the TAP up and joins it with the link, both ways. The redirect takes each frame before the namespace's own IP
 * stack sees it, so the pod's addresses stay on the link without anybody but the guest answering for them: CNI plugins
 * read them there at DEL (portmap, masquerading) and CHECK, and a later VM of the same pod does. The link keeps its MAC
 * address; the guest must use the same.
 * @throws VmError; then the link is as it was, and closing the TAP's descriptors undoes the rest.
 */
export async function applyMirror(host: Host, mirror: Mirror, signal?: AbortSignal): Promise<void> {
  const { netns, tap, link, mtu } = mirror;
  checkLinkName(tap);
  checkLinkName(link);
  const up = [['link', 'set', 'dev', tap, 'mtu', String(mtu), 'up']];
  try {
    await settleAll([
      runBatch(host, 'ip', netns, up, signal),
      withClassifier(
        (classifier) => runBatch(host, 'tc', netns, planMirror(mirror, classifier), signal),
        () =>
          settleAll([removeMirror(host, mirror, signal), removeMirror(host, { netns, link: tap }, signal)]),
      ),
    ]);
  } catch (error) {
    // What went wrong first says more than that undoing it goes wrong as well.
    await removeMirror(host, mirror).catch(() => undefined);
    throw error;
  }
}

/**
 * Sends every frame that comes in by one link out on another, by one process together with the commands that are to run
 * before it.
 */
export async function redirectAll(
  host: Host,
  netns: Netns,
  { from, to }: { readonly from: string; readonly to: string },
  before: readonly (readonly string[])[],
  signal?: AbortSignal,
): Promise<void> {
  await withClassifier(
    (classifier) => runBatch(host, 'tc', netns, [...before, ...redirect(from, to, classifier)], signal),
    () => removeMirror(host, { netns, link: from }, signal),
  );
}

/**
 * Whether a kernel has matchall shows when it is used: it may be a module that loads only then. Where neither goes, the
 * link may have kept a filter of a VM that was not cleaned up: matchall, unlike u32, cannot replace its own.
 */
async function withClassifier(
  run: (classifier: Classifier) => Promise<void>,
  clear: () => Promise<void>,
): Promise<void> {
  const unlessOther = (error: unknown): void => {
    if (!VmError.is(error, 'Internal')) throw error;
  };
  try {
    await run('matchall');
    return;
  } catch (error) {
    unlessOther(error);
  }
  try {
    await run('u32');
  } catch (error) {
    unlessOther(error);
    await clear();
    await run('matchall').catch(() => {
      // Every kernel has u32, so what it says is what is wrong.
      throw error;
    });
  }
}

/** What tc says where there is nothing to take off: no link, no namespace, no filter. */
const GONE = /Cannot find (?:device|specified filter chain)|reassociate to namespace/;

/**
 * Takes our filter off the link; the TAP's goes with the TAP. Idempotent: a link or namespace that is gone is fine, and so is a
 * filter that somebody else takes off at this moment. A pod whose shim was killed has two who clean up, containerd's `delete`
 * of the VM and that of the sandbox.
 */
export async function removeMirror(
  host: Host,
  { netns, link }: Pick<Mirror, 'netns' | 'link'>,
  signal?: AbortSignal,
): Promise<void> {
  if (netns !== undefined && host.inspect(netns) === undefined) return;
  const filter = ['dev', checkLinkName(link), 'ingress', 'pref', PREFERENCE];
  try {
    const { stdout } = await execInNetns(host, netns, 'tc', ['filter', 'show', ...filter], { signal });
    if (stdout.trim() === '') return;
    await execInNetns(host, netns, 'tc', ['filter', 'delete', ...filter], { signal });
  } catch (error) {
    if (VmError.is(error) && GONE.test(error.message)) return;
    throw error;
  }
}
