/** The agent's view of the node's pods, over the wire: real HTTPS, the real client library's authentication. */
import t from 'tap';
import { loadCluster } from '../../../src/agent/kube/cluster.ts';
import { KubeApi } from '../../../src/agent/kube/kube-api.ts';
import { NodePods } from '../../../src/agent/kube/node-pods.ts';
import { PodMirror } from '../../../src/agent/kube/pod-mirror.ts';
import type { PodView } from '../../../src/agent/kube/pod-view.ts';
import { KubeServer } from '../../support/kube-server.ts';
import { recordingLogger } from '../../support/recording-logger.ts';

const TIMES = {
  watch: { serverSeconds: 300, idleMs: 60_000 },
  // Long enough that what goes on without a pause is seen to.
  backOff: { first: 5, most: 20 },
};

interface Mirrored {
  readonly kube: KubeServer;
  readonly mirror: PodMirror;
  /** What was told: `name@version`, or `-uid`. */
  readonly told: string[];
  /** Resolves when it holds, looking at every change. */
  readonly until: (done: () => boolean) => Promise<void>;
}

async function start(t: Tap, prepare: (kube: KubeServer) => void = () => undefined): Promise<Mirrored> {
  const kube = await KubeServer.start(t);
  kube.addPod({ name: 'a', uid: 'uid-a' });
  kube.addPod({ name: 'other', uid: 'uid-other', node: 'node-2' });
  prepare(kube);
  const api = new KubeApi(loadCluster({ kubeconfig: kube.kubeconfig }, {}), 'test');
  const mirror = new PodMirror(new NodePods(api, 'node-1'), TIMES, recordingLogger());
  const told: string[] = [];
  const waiting: (() => void)[] = [];
  const stir = (): void => waiting.splice(0).forEach((look) => look());
  mirror.onChange((uid: string, pod: PodView | undefined) => {
    told.push(pod === undefined ? `-${uid}` : pod.name);
    stir();
  });
  const ending = new AbortController();
  const running = mirror.run(ending.signal);
  t.teardown(async () => {
    ending.abort();
    await running;
  });
  const until = async (done: () => boolean): Promise<void> => {
    while (!done()) await new Promise<void>((resolve) => void waiting.push(resolve));
  };
  return { kube, mirror, told, until };
}

interface Tap {
  teardown(undo: () => unknown): void;
}

void t.test('the pods of this node alone, then what changes', async (t) => {
  const { kube, mirror, told, until } = await start(t);
  await until(() => told.length === 1);
  await kube.until(() => kube.watching === 1);
  t.same([...mirror.pods.keys()], ['uid-a']);
  kube.addPod({ name: 'b', uid: 'uid-b' });
  kube.addPod({ name: 'c', uid: 'uid-c', node: 'node-2' });
  kube.annotate('a', 'vmshim.io/power-request', 'x');
  kube.deletePod('b');
  await until(() => told.includes('-uid-b'));
  t.same(told, ['a', 'b', 'a', '-uid-b']);
  t.equal(mirror.pods.get('uid-a')?.request, 'x');
  t.match(mirror.state, { connected: true, lists: 1, failures: 0 });
  t.equal(kube.consistentLists, 0, 'the server’s cache will do');
  t.match(kube.requests[1], /watch=true.*allowWatchBookmarks=true.*resourceVersion=\d+/);
});

void t.test('a watch that ends goes on from where it was, and from its bookmarks', async (t) => {
  const { kube, told, until } = await start(t);
  await kube.until(() => kube.watching === 1);
  kube.bookmark();
  const { version } = kube;
  kube.annotate('a', 'x', '1');
  await until(() => told.length === 2);
  kube.bookmark();
  kube.endWatches();
  await kube.until(() => kube.watching === 1);
  t.equal(kube.requests.filter((line) => !line.includes('watch=')).length, 1, 'nothing is listed again');
  const since = Number(/resourceVersion=(\d+)/.exec(kube.requests.at(-1) ?? '')?.[1]);
  t.ok(since > Number(version), 'the bookmark was heeded');
  kube.annotate('a', 'x', '2');
  await until(() => told.length === 3);
});

for (const goneByStatus of [false, true]) {
  void t.test(
    `410 Gone ${goneByStatus ? 'as a status' : 'as an event'}: listed again, with what was missed`,
    async (t) => {
      const { kube, mirror, told, until } = await start(t);
      await kube.until(() => kube.watching === 1);
      kube.goneByStatus = goneByStatus;
      kube.addPod({ name: 'b', uid: 'uid-b' });
      await until(() => told.includes('b'));
      // Nobody watches while this happens.
      kube.outage = 500;
      kube.breakConnections();
      await kube.until(() => kube.requests.length > 3);
      kube.deletePod('b');
      kube.addPod({ name: 'c', uid: 'uid-c' });
      kube.compact();
      kube.outage = undefined;
      await until(() => told.includes('c') && told.includes('-uid-b'));
      await kube.until(() => kube.watching === 1);
      t.same([...mirror.pods.keys()].sort(), ['uid-a', 'uid-c']);
      t.equal(told.filter((name) => name === 'a').length, 1, 'what has not changed is not told again');
      t.equal(mirror.state.connected, true);
    },
  );
}

void t.test('a connection that breaks within an event loses and invents nothing', async (t) => {
  const { kube, mirror, told, until } = await start(t);
  await kube.until(() => kube.watching === 1);
  kube.breakConnections();
  kube.annotate('a', 'x', '1');
  await until(() => told.length === 2);
  t.same(told, ['a', 'a']);
  t.equal(mirror.pods.size, 1);
});

void t.test('an outage leaves what is known, says so once, and ends by itself', async (t) => {
  const { kube, mirror, told, until } = await start(t);
  await kube.until(() => kube.watching === 1);
  kube.outage = 503;
  kube.breakConnections();
  const before = kube.requests.length;
  await kube.until(() => kube.requests.length >= before + 4);
  t.same([...mirror.pods.keys()], ['uid-a']);
  t.equal(mirror.state.connected, false);
  t.ok(mirror.state.failures >= 3);
  kube.outage = undefined;
  kube.annotate('a', 'x', '1');
  await until(() => told.length === 2);
  t.equal(mirror.state.connected, true);
});

void t.test('a server that has not seen our version yet is asked for what it has', async (t) => {
  const { kube, mirror, told, until } = await start(t);
  await until(() => told.length === 1);
  await kube.until(() => kube.watching === 1);
  for (let i = 0; i < 10; i++) kube.bookmark();
  kube.annotate('a', 'x', '1');
  await until(() => told.length === 2);
  kube.rewind(5);
  kube.endWatches();
  await kube.until(() => kube.consistentLists === 1 && kube.watching === 1);
  t.equal(mirror.pods.size, 1);
});

void t.test('a server that ends every watch at once is not asked without end', async (t) => {
  const { kube, mirror } = await start(t, (kube) => (kube.endsAtOnce = true));
  await kube.until(() => kube.requests.length > 5);
  t.ok(mirror.state.watches > 3);
  t.equal(mirror.state.lists, 1);
});

void t.test('UIDs of the pods that exist: pages of metadata by a consistent read', async (t) => {
  const kube = await KubeServer.start(t);
  for (let i = 0; i < 1200; i++) kube.addPod({ name: `p${i}`, uid: `uid-${i}` });
  kube.addPod({ name: 's', uid: 'mirror', annotations: { 'kubernetes.io/config.mirror': 'static' } });
  kube.addPod({ name: 'x', uid: 'elsewhere', node: 'node-2' });
  const api = new KubeApi(loadCluster({ kubeconfig: kube.kubeconfig }, {}), 'test');
  const pods = new NodePods(api, 'node-1');
  const { signal } = new AbortController();
  const uids = await pods.listUids(signal);
  t.equal(uids.size, 1202);
  t.ok(uids.has('static') && uids.has('mirror') && !uids.has('elsewhere'));
  t.equal(kube.consistentLists, 3);
  kube.outage = 500;
  await t.rejects(pods.listUids(signal), { message: /answers 500/ });
});
