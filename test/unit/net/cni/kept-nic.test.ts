/** A guest that outlives its sandbox keeps its addresses, until the pod's next sandbox or its end. */
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { readHandovers } from '../../../../src/net/handover.ts';
import { releaseKept } from '../../../../src/net/cni/kept-nic.ts';
import { tapName } from '../../../../src/net/tap-name.ts';
import {
  ANSWER_ADD,
  bridgeNetwork,
  callPlugin,
  failing,
  IPAM_ANSWER,
  SANDBOX,
} from './support/call-plugin.ts';
import { tempDir } from '../../../support/temp-dir.ts';
import { NodeTree } from './support/node-tree.ts';

const NEXT = 'decade';
const BOOT_ID = '/proc/sys/kernel/random/boot_id';
const TAP = tapName('uid-1', 'eth0');

/** A node on which a pod's guest runs or has ended, by its TAP. */
class GuestNode extends NodeTree {
  runs = true;

  override inspect(path: string): ReturnType<NodeTree['inspect']> {
    if (path === `/sys/class/net/${TAP}`) return this.runs ? super.inspect('/') : undefined;
    return super.inspect(path);
  }

  get files(): string[] {
    return readdirSync(this.stateDir).filter((name) => name.startsWith('kept-'));
  }
}

function nodeWithGuest(t: Test): { host: GuestNode; network: Record<string, unknown> } {
  const host = new GuestNode(t);
  host.putBridge('br0');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  return { host, network: bridgeNetwork(host) };
}

void t.test('from one sandbox to the next', async (t) => {
  const { host, network } = nodeWithGuest(t);
  const first = await callPlugin(host, 'ADD', network);
  const [handover] = readHandovers(host, host.stateDir, SANDBOX);
  for (let i = 0; i < 2; i++)
    t.equal((await callPlugin(host, 'DEL', network)).status, 0, 'DEL, as often as the runtime likes');
  t.same(readHandovers(host, host.stateDir, SANDBOX), []);
  t.same(host.calls, [`ADD ${SANDBOX}/eth0`], 'IPAM hears nothing of it');

  // It would give others now.
  const others = { ...IPAM_ANSWER, ips: [{ address: '10.1.0.9/24' }] };
  host.putPlugin('fake-ipam', `[ "$CNI_COMMAND" != ADD ] || echo '${JSON.stringify(others)}'`);
  const next = { CNI_CONTAINERID: NEXT };
  const second = await callPlugin(host, 'ADD', network, next);
  t.same(second, first, 'the same result');
  t.same(readHandovers(host, host.stateDir, NEXT), [{ ...handover, sandboxId: NEXT }]);
  t.same(host.files, []);
  t.same(readdirSync(join(host.stateDir, 'cni', NEXT)), ['eth0.json'], 'nothing is left of the way there');
  await callPlugin(host, 'DEL', network);
  await callPlugin(host, 'CHECK', { ...network, prevResult: second.answer }, next);
  t.same(host.calls.slice(1), [`CHECK ${SANDBOX}/eth0`], 'the old sandbox has nothing any more');

  const valid = { 'cni.dev/valid-attachments': [{ containerID: NEXT, ifname: 'eth0' }] };
  t.equal((await callPlugin(host, 'GC', { ...network, ...valid })).status, 0);
  t.match(
    host.calledWith.at(-1),
    /^GC .*valid-attachments":\[.*"containerID":"decade".*"containerID":"c0ffee"/,
    'IPAM is told of both',
  );
  host.runs = false;
  await callPlugin(host, 'DEL', network, next);
  t.equal(host.calls.at(-1), `DEL ${SANDBOX}/eth0`, 'freed by the name that IPAM knows');
  t.same(readdirSync(join(host.stateDir, 'cni')), []);
});

void t.test('the guest ends before there is a next one', async (t) => {
  const { host, network } = nodeWithGuest(t);
  await callPlugin(host, 'ADD', network);
  await callPlugin(host, 'DEL', network);
  const valid = { 'cni.dev/valid-attachments': [] };
  await callPlugin(host, 'GC', { ...network, ...valid });
  t.same(host.files, [`kept-${TAP}.json`], 'GC leaves it alone while the guest runs');

  await t.test('its clean-up frees the addresses', async (t) => {
    host.putPlugin('fake-ipam', failing(11, 'busy'));
    await t.rejects(releaseKept(host, host.stateDir, TAP), { message: /busy/ });
    t.equal(host.files.length, 1, 'what could not be freed is known');
    host.putPlugin('fake-ipam', ANSWER_ADD);
    await releaseKept(host, host.stateDir, TAP);
    t.equal(host.calls.at(-1), `DEL ${SANDBOX}/eth0`);
    t.same(host.files, []);
    const calls = host.calls.length;
    await releaseKept(host, host.stateDir, TAP);
    t.equal(host.calls.length, calls, 'once');
  });

  await t.test('or GC', async (t) => {
    await callPlugin(host, 'ADD', network);
    await callPlugin(host, 'DEL', network);
    host.runs = false;
    await callPlugin(host, 'GC', { ...network, ...valid });
    t.match(host.calls.slice(-2), [`DEL ${SANDBOX}/eth0`, /^GC/]);
    t.same(host.files, []);
  });
});

void t.test('over a reboot', async (t) => {
  /** As the kernel does, and a `stateDir` in memory. */
  const reboot = (host: GuestNode): void => {
    host.runs = false;
    host.put(BOOT_ID, 'second\n');
    rmSync(host.stateDir, { recursive: true });
  };
  const kept = async (t: Test) => {
    const { host, network } = nodeWithGuest(t);
    const dataDir = tempDir(t);
    const configured = { ...network, dataDir };
    host.put(BOOT_ID, 'first\n');
    const notes = (): string[] => readdirSync(join(dataDir, 'leases'));
    await callPlugin(host, 'ADD', configured);
    await callPlugin(host, 'DEL', configured);
    t.equal(notes().length, 1);
    return { host, network: configured, notes };
  };
  const next = { CNI_CONTAINERID: NEXT };

  await t.test('the next ADD frees what an orphan had', async (t) => {
    const { host, network, notes } = await kept(t);
    reboot(host);
    t.equal((await callPlugin(host, 'ADD', { ...network, name: 'other' })).status, 0);
    t.notOk(host.calls.includes(`DEL ${SANDBOX}/eth0`), 'not that of another network');
    host.putPlugin('fake-ipam', `[ "$CNI_COMMAND" = ADD ] || exit 1; ${ANSWER_ADD}`);
    t.equal((await callPlugin(host, 'ADD', network, next)).status, 0, 'not even where IPAM cannot');
    t.equal(notes().length, 1);
    const valid = { 'cni.dev/valid-attachments': [{ containerID: NEXT, ifname: 'eth0' }] };
    t.match(await callPlugin(host, 'GC', { ...network, ...valid }), { status: 1 }, 'which GC tells');
    host.putPlugin('fake-ipam', ANSWER_ADD);
    t.equal((await callPlugin(host, 'ADD', network, { CNI_CONTAINERID: 'third' })).status, 0);
    t.match(host.calls.slice(-2), [`DEL ${SANDBOX}/eth0`, 'ADD third/eth0']);
    t.same(notes(), []);
  });

  await t.test('DEL frees what an adopted guest had', async (t) => {
    const { host, network, notes } = await kept(t);
    await callPlugin(host, 'ADD', network, next);
    t.equal(notes().length, 1, 'IPAM still knows it by the old id');
    reboot(host);
    t.equal((await callPlugin(host, 'DEL', network, next)).status, 0);
    t.ok(host.calls.includes(`DEL ${SANDBOX}/eth0`));
    t.same(notes(), []);
  });

  await t.test('nothing is left to free where the guest has ended before', async (t) => {
    const { host, network, notes } = await kept(t);
    await callPlugin(host, 'ADD', network, next);
    await callPlugin(host, 'DEL', network, next);
    t.equal(notes().length, 1);
    await releaseKept(host, host.stateDir, TAP);
    t.same(notes(), [], 'kept to its end');
    await callPlugin(host, 'ADD', network);
    await callPlugin(host, 'DEL', network);
    await callPlugin(host, 'ADD', network, next);
    host.runs = false;
    await callPlugin(host, 'DEL', network, next);
    t.same(notes(), [], 'and taken over');
  });
});

void t.test('what was kept is passed over where it does not fit', async (t) => {
  const { host, network } = nodeWithGuest(t);
  const next = { CNI_CONTAINERID: NEXT };
  await callPlugin(host, 'ADD', network);
  await callPlugin(host, 'DEL', network);
  await callPlugin(host, 'ADD', { ...network, name: 'other' }, next);
  t.equal(host.calls.at(-1), `ADD ${NEXT}/eth0`, 'by another network');
  t.equal(host.files.length, 1);
  host.runs = false;
  await callPlugin(host, 'DEL', { ...network, name: 'other' }, next);
  await callPlugin(host, 'ADD', network, next);
  t.equal(host.calls.at(-1), `ADD ${NEXT}/eth0`, 'by a pod whose guest has ended');
  await callPlugin(host, 'DEL', network, next);
  writeFileSync(join(host.stateDir, `kept-${TAP}.json`), '{');
  await callPlugin(host, 'ADD', network, next);
  t.equal(host.calls.at(-1), `ADD ${NEXT}/eth0`, 'where it is damaged');
});

void t.test('an ADD that fails gives back what it took', async (t) => {
  const { host, network } = nodeWithGuest(t);
  await callPlugin(host, 'ADD', network);
  await callPlugin(host, 'DEL', network);
  // As of an IPAM plugin that was changed meanwhile.
  const path = join(host.stateDir, `kept-${TAP}.json`);
  const kept = JSON.parse(host.get(path)) as { lease: { result: object } };
  writeFileSync(path, JSON.stringify({ ...kept, lease: { ...kept.lease, result: { ips: [] } } }));
  const answer = await callPlugin(host, 'ADD', network, { CNI_CONTAINERID: NEXT });
  t.match(answer, { status: 1, answer: { msg: /ips of the answer of IPAM plugin/ } });
  t.ok(existsSync(path));
  t.same(readdirSync(join(host.stateDir, 'cni')), [], 'and leaves nothing');
});
