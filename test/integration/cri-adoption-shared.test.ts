/**
 * A guest with shared directories outlives its shim as any other does: what serves the directories lives on beside QEMU, the
 * next shim watches over it, and it ends with its VM.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { VmRecord } from '../../src/vm/record.ts';
import { criContainerd } from '../support/cri-containerd.ts';
import { CriPod } from '../support/cri-pod.ts';
import { forgetPod, killShim, recreate, type RunningPod } from '../support/cri-recreate.ts';
import { WAYS } from '../support/cri-ways.ts';
import { processEnded } from '../support/shim-client.ts';
import { untilFile } from '../support/until-file.ts';
import { vmImage } from '../support/vm-image.ts';
import { pidOf, vmRecord } from '../support/vm-record.ts';

void t.test('a guest with shared directories', async (t) => {
  // Pods outlive the parts of the test.
  const whole = t;
  const { plugins } = WAYS['a TAP on the node’s bridge'];
  // What is not taken over is not asked for long.
  const node = await criContainerd(t, { vmPlugins: plugins, shimConfig: '[orphan]\ngrace = 1\n' });
  const { containerd } = node;
  const pod = await CriPod.run(t, node);
  const volume = (name: string): string => {
    const directory = join(pod.directory, 'volumes/kubernetes.io~empty-dir', name);
    mkdirSync(directory, { recursive: true });
    return directory;
  };
  const [files, more] = [volume('files'), volume('more')];
  writeFileSync(join(files, 'count'), '');
  writeFileSync(join(more, 'note'), 'more from the node\n');
  const options = {
    annotations: {
      'vmshim.io/memory': '128Mi',
      ...(await vmImage()).kernelBoot,
      'vmshim.io/shared-directories': JSON.stringify([{ volume: '/files' }, { volume: '/more' }]),
    },
    mounts: [
      { containerPath: '/files', hostPath: files },
      { containerPath: '/more', hostPath: more },
    ],
  };
  const vm = await pod.start({ stdin: true, ...options });
  await vm.log.until(/vmguest: ready/);
  let running: RunningPod = { pod, vm, attempt: 0 };
  const recordOf = (): VmRecord => vmRecord(containerd, running.vm.id, 'k8s.io');
  const mount = (tag: string): string => `mkdir -p /run/${tag} && mount -t virtiofs ${tag} /run/${tag}`;
  const serversOf = ({ shared = [] }: VmRecord): number[] => shared.map(({ server }) => server.pid);

  await t.test('goes on using them, without its shim and with the next one', async (t) => {
    {
      using console = await running.vm.attach();
      await console.ask(
        `modprobe virtiofs; ${mount('files')}; ${mount('more')}; echo "mounted $((1))"`,
        /mounted 1\s/,
      );
      const count = 'n=0; until [ -e /run/files/stop ]; do n=$((n + 1)); echo "$n" >>/run/files/count; done';
      await console.ask(`(${count}) & echo "counts $((1))"`, /counts 1\s/);
    }
    const { qemu, shared } = recordOf();
    t.equal(shared?.length, 2);
    await killShim(node, running);
    const counted = readFileSync(join(files, 'count'), 'latin1').split('\n').length;
    await untilFile(join(files, 'count'), new RegExp(`^${counted + 20}\n`, 'm'));
    running = await recreate(whole, node, running, options);
    const record = recordOf();
    t.same(record.qemu, qemu, 'the same QEMU');
    t.same(record.shared, shared, 'the same virtiofsds');
    writeFileSync(join(more, 'later'), 'written by the node\n');
    using console = await running.vm.attach();
    await console.ask('cat /run/more/later', /written by the node\s/);
    await console.ask('echo "by the guest" >/run/more/answer; echo "wrote $?."', /wrote 0\./);
    t.equal(readFileSync(join(more, 'answer'), 'utf8'), 'by the guest\n');
    writeFileSync(join(files, 'stop'), '');
    await console.ask('wait; echo "stopped $((1))"', /stopped 1\s/);
    const lines = readFileSync(join(files, 'count'), 'latin1').trim().split('\n');
    t.same(
      lines,
      Array.from(lines, (_, i) => `${i + 1}`),
      'nothing that it wrote is lost',
    );
    t.notMatch(running.vm.log.text, /vmguest: booting/, 'the same boot');
    const { stdout } = await containerd.vmctl('status', running.vm.id);
    t.match(stdout, /shared +files: virtiofs, the volume \/files /);
    t.notMatch(stdout, /lost a shared directory/);
  });

  await t.test('boots anew where one is another directory now', async (t) => {
    const left = recordOf();
    await killShim(node, running);
    renameSync(more, join(pod.directory, 'moved'));
    volume('more');
    writeFileSync(join(more, 'note'), 'another directory\n');
    running = await recreate(whole, node, running, options);
    await running.vm.log.until(/vmguest: ready/);
    t.match(
      containerd.log(),
      /the volume at \\*"\/more\\*" is another directory than the guest has, so it has to boot anew/,
    );
    for (const pid of serversOf(left)) await processEnded(pid);
    using console = await running.vm.attach();
    await console.ask(`modprobe virtiofs; ${mount('more')}; cat /run/more/note`, /another directory\s/);
  });

  await t.test('is told of one that has ended while nobody looked', async (t) => {
    const { qemu, shared } = recordOf();
    await killShim(node, running);
    const [server] = shared ?? [];
    process.kill(pidOf(server?.server), 'SIGKILL');
    await processEnded(pidOf(server?.server));
    running = await recreate(whole, node, running, options);
    t.same(recordOf().qemu, qemu, 'the same QEMU');
    await lostIn(t, async () => (await containerd.vmctl('status', running.vm.id)).stdout);
    using console = await running.vm.attach();
    await console.ask('cat /run/more/note', /another directory\s/);
  });

  await t.test('ends with its pod while there is no shim, and they with it', async () => {
    const left = recordOf();
    await killShim(node, running);
    await running.pod.remove();
    forgetPod(running.pod);
    await processEnded(pidOf(left.qemu));
    for (const pid of serversOf(left)) await processEnded(pid);
  });
});

/** A server and QEMU may end together: the shim waits for that before it tells. */
async function lostIn(t: Test, status: () => Promise<string>): Promise<void> {
  const lost = /warning +the guest has lost a shared directory .* volume at "\/files"/;
  while (!lost.test(await status())) await delay(50);
  t.match(await status(), lost);
  t.notMatch(await status(), /volume at "\/more" ended/);
}
