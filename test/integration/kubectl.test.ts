/** The real kubectl, old and new, with the installed plugin, the manifests, and the lines that docs tell operators to type. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadAllYaml } from '@kubernetes/client-node';
import t from 'tap';
import { at, itemsAt, textAt } from '../../src/agent/kube/json.ts';
import { agentLab, poweredOn, powerStatus } from '../support/agent-lab.ts';
import { type KubectlRelease, operatorShell } from '../support/kubectl.ts';
import { tempDir } from '../support/temp-dir.ts';

const root = join(import.meta.dirname, '../..');
const releases: readonly KubectlRelease[] = ['bookworm', 'sid'];
const page = readFileSync(join(root, 'docs/agent.md'), 'utf8');
const manifests = join(root, 'docs/manifests');
const kustomization = itemsAt(loadAllYaml(readManifest('kustomization.yaml'))[0], 'resources').map(String);
const sources = kustomization.flatMap((file) => loadAllYaml(readManifest(file)) as unknown[]);
const name = 'web-0';

/** The first line of docs/agent.md that begins so, without what follows it as a comment. */
function documented(beginning: string): string {
  const line = page.split('\n').find((text) => text.startsWith(beginning));
  if (line === undefined) throw new Error(`docs/agent.md has no "${beginning} …"`);
  return line;
}

void t.test('an operator with kubectl', async (t) => {
  const prefix = tempDir(t);
  execFileSync(join(root, 'scripts/install'), [prefix], { stdio: 'ignore' });
  const bin = join(prefix, 'bin');

  for (const release of releases) {
    await t.test(`of Debian ${release}`, async (t) => {
      const { kube, start, vm } = await agentLab(t);
      const type = operatorShell(t, release, kube, bin);
      kube.addPod({ name, uid: 'uid-a' });
      kube.addPod({ name: 'b', uid: 'uid-b', namespace: 'other' });
      const shim = await vm();
      shim.power = ({ id, action }) => {
        const power = { id, action, phase: 'done', message: '', atMs: Date.now() };
        shim.set({ powerState: action === 'stop' ? 'off' : 'on', power });
        return power;
      };
      await start();
      await kube.until(() => poweredOn(kube, name).status === 'True');

      await t.test('its plugin', async (t) => {
        const plugins = await type('kubectl plugin list');
        t.match(plugins, { status: 0, stdout: new RegExp(`^${bin}/kubectl-vm$`, 'm') });
        t.match(await type('kubectl vm list'), {
          ...{ status: 0, stderr: '' },
          stdout: /^NAME .*\nweb-0 +Running +on +- +node-1 +10\.0\.0\.9$/,
        });
        t.match(await type('kubectl vm list -A'), {
          ...{ status: 0, stdout: /\nother +b +Running +unknown / },
        });
        const stop = await type(documented('kubectl vm stop'));
        t.match(stop, { status: 0, stdout: /^pod\/web-0 stop: done$/ });
        t.match(shim.asked, [{ action: 'stop', graceSeconds: 120 }]);
        await kube.until(() => poweredOn(kube, name).status === 'False');
        const status = await type(documented('kubectl vm status'));
        t.match(status, { status: 0, stdout: /^power +off$[^]*^answer +done$/m });
        t.match(await type('kubectl vm start web-0 -n default'), { status: 0 });
        await kube.until(() => poweredOn(kube, name).status === 'True');
        t.match(await type('kubectl vm stop none'), { status: 3, stderr: /there is no pod "none"/ });

        const attached = await type(documented('kubectl vm console'));
        t.match(attached.stderr, /can be read and not typed at/);
        t.not(attached.status, 0, 'this server attaches nobody');
        const attach = new RegExp(`/pods/${name}/attach\\?`);
        t.ok(kube.requests.some((line) => attach.test(line)));
      });

      await t.test('a request by hand', async (t) => {
        const annotate = await type(documented('kubectl annotate'));
        t.match(annotate, { status: 0, stdout: /^pod\/web-0 annotated$/ });
        await kube.until(
          () => powerStatus(kube, name).id === '42' && powerStatus(kube, name).phase === 'done',
        );
        t.match(shim.asked.at(-1), { id: '42', action: 'stop', graceSeconds: 120 });
        const status = await type(documented('kubectl get pod web-0 -o jsonpath'));
        t.match(JSON.parse(status.stdout), { id: '42', phase: 'done', message: '', time: /^2\d{3}-.*Z$/ });
        await kube.until(() => poweredOn(kube, name).reason === 'PoweredOff');
        t.match(await type('kubectl vm start web-0'), { status: 0 });
        const [, wait = ''] = /`(kubectl wait [^`]*)`/.exec(page) ?? [];
        t.match(await type(wait), { status: 0, stdout: /^pod\/web-0 condition met$/ }, wait);
      });

      await t.test('the manifests', async (t) => {
        const rendered = await type('kubectl kustomize docs/manifests');
        t.match(rendered, { status: 0, stderr: '' });
        const objects = loadAllYaml(rendered.stdout) as unknown[];
        t.same(objects.map(placeOf).sort(), [
          ...['ClusterRole vm-node-agent', 'ClusterRoleBinding vm-node-agent'],
          ...['DaemonSet kube-system/vm-node-agent', 'PriorityClass vm', 'RuntimeClass vm'],
          'ServiceAccount kube-system/vm-node-agent',
        ]);
        // What test/unit/agent/manifests.test.ts compares with agent and docs is what is applied.
        t.same(byPlace(objects), byPlace(sources));
        // This server has no OpenAPI document to check fields by.
        const apply = `${documented('kubectl apply -k').replace(/ *#.*/, '')} --validate=false`;
        t.match(await type(`${apply} --dry-run=client`), { status: 0, stdout: /created \(dry run\)/ });
        t.equal(kube.objects.size, 0);
        t.match(await type(apply), { status: 0, stdout: /^(\S+ created\n?){6}$/ });
        t.match(await type(apply), { status: 0, stdout: /^(\S+ unchanged\n?){6}$/ });
        t.same([...kube.objects.values()].map(placeOf).sort(), objects.map(placeOf).sort());
        for (const file of ['node-restriction.yaml', 'limit-range.yaml', 'runtime-class.yaml'])
          t.match(
            await type(`kubectl apply -f docs/manifests/${file} --validate=false`),
            { status: 0 },
            file,
          );
      });
    });
  }
});

function readManifest(file: string): string {
  return readFileSync(join(manifests, file), 'utf8');
}

function byPlace(objects: readonly unknown[]): Record<string, unknown> {
  return Object.fromEntries(objects.map((object) => [placeOf(object), object]));
}

/** Kind, namespace where there is one, and name. */
function placeOf(object: unknown): string {
  const namespace = textAt(object, 'metadata', 'namespace');
  const place = `${namespace === undefined ? '' : `${namespace}/`}${textAt(object, 'metadata', 'name') ?? ''}`;
  return `${String(at(object, 'kind'))} ${place}`;
}
