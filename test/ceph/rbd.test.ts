/**
 * Images of a real Ceph as disks, through real containerd and QEMU's own driver: what the guest writes is what Ceph's tools
 * read, and what cannot be opened is refused with a sentence.
 */
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { cephLab } from '../support/ceph-lab.ts';
import { type Containerd, privateContainerd } from '../support/containerd.ts';
import { type CtrRun, ctrRun, untilReady } from '../support/ctr-run.ts';
import { ask } from '../support/guest-shell.ts';
import { processesOf } from '../support/leaks.ts';
import { tempDir } from '../support/temp-dir.ts';

const NOBODY = '127.0.0.1:6790';

void t.test('images of Ceph as disks', async (t) => {
  const ceph = cephLab(t);
  const node = tempDir(t);
  const capabilities = ['mon', 'profile rbd', 'osd', 'profile rbd pool=volumes'];
  const key = ceph.run('ceph', 'auth', 'get-or-create-key', 'client.vm', ...capabilities).trim();
  const weak = ceph.run('ceph', 'auth', 'get-or-create-key', 'client.weak', 'mon', 'allow r').trim();
  ceph.run('rbd', 'create', 'volumes/db', '--size', '32M');
  const good = secret(node, 'good', { userID: 'vm', userKey: key });
  const shimConfig = `[rbd]
    monitors = ["${ceph.monitor}", "${NOBODY}"]
    netns = "${ceph.netns.path}"
    timeout = 5\n`;
  const containerd = await privateContainerd(t, { shimConfig });
  const db = { name: 'db', rbd: 'volumes/db', secret: '/vmshim/ceph' };

  await t.test('the guest reads and writes; what it wrote is in Ceph and in its next life', async (t) => {
    const run = await boot(containerd, 'writer', [db], good);
    await ask(run, 'disks', /disk vdb bytes=33554432 ro=0 serial=db\s/);
    t.notMatch(await ask(run, 'disks', /disk vda[^]*/), /vmshim|ceph/, 'the Secret is no disk of the guest');
    await ask(
      run,
      'echo written-by-guest | dd of=/dev/vdb bs=512 seek=8 conv=sync,fsync; echo done',
      /^done/m,
    );

    t.match(ceph.run('rbd', 'status', 'volumes/db'), /watcher=127\.0\.0\.1:/);
    const status = (await containerd.vmctl('status', 'writer')).stdout;
    t.match(
      status,
      /disk +db: virtio disk, 32Mi, serial db, rbd volumes\/db \(volumes\/db\), cache writeback, aio librbd/,
    );
    await refused(
      t,
      containerd,
      [db],
      good,
      /disk \\?"db\\?" \(rbd volumes\/db\) is in use by VM \\?"writer\\?"/,
    );
    const shown = whatOthersSee(containerd.directory);
    t.match(shown, /"key-secret":"rbd-key-db"/, 'it is QEMU’s command line that was looked at');
    t.notMatch(shown, key, 'the key is in no argument, environment, record or log');
    await poweroff(t, run);

    ceph.run('rbd', 'export', 'volumes/db', '/cluster/exported');
    const exported = readFileSync(join(ceph.directory, 'exported'));
    t.equal(exported.length, 32 * 2 ** 20);
    t.match(exported.toString('latin1', 4096, 4112), 'written-by-guest');
    t.match(ceph.run('rbd', 'status', 'volumes/db'), /Watchers: none/);

    ceph.run('rbd', 'snap', 'create', 'volumes/db@before', '--no-progress');
    const snapshot = { ...db, name: 'before', rbd: 'volumes/db@before', bus: 'scsi', cache: 'none' };
    const again = await boot(containerd, 'writer', [db, snapshot], good);
    await ask(again, 'dd if=/dev/vdb bs=512 skip=8 count=1 2>/dev/null; echo .', /^written-by-guest/m);
    await ask(again, 'echo changed | dd of=/dev/vdb bs=512 seek=8 conv=sync,fsync; echo done', /^done/m);
    await ask(again, 'modprobe -a virtio_scsi sd_mod; echo loaded', /^loaded/m);
    await ask(again, 'until [ -e /dev/sda ]; do sleep 0.1; done; echo there', /^there/m);
    await ask(again, 'dd if=/dev/sda bs=512 skip=8 count=1 2>/dev/null; echo .', /^written-by-guest/m);
    await ask(again, 'echo x >/dev/sda || echo refused', /^refused/m);
    await poweroff(t, again);
  });

  await t.test('what cannot be opened is refused with a sentence', async (t) => {
    const disk = (more: object): readonly object[] => [{ ...db, ...more }];
    const about = 'disk \\\\?"db\\\\?" \\(rbd volumes/db\\): ';
    const wrong = secret(node, 'wrong', { key: weak });
    for (const [list, from, sentence] of [
      [disk({ rbd: 'volumes/absent' }), good, 'the pool has no such image; check'],
      [disk({ rbd: 'volumes/db@absent' }), good, 'no such image or no such snapshot; check'],
      [disk({ rbd: 'absent/db' }), good, 'the cluster has no pool \\\\?"absent\\\\?"; check'],
      [disk({ rbd: 'volumes/absent/db' }), good, 'the pool has no namespace \\\\?"absent\\\\?"; check'],
      // Refused by one monitor, a client goes on looking for those that do not answer.
      [
        disk({ user: 'vm', monitors: [ceph.monitor] }),
        wrong,
        `${about}Ceph does not know client.vm by the key in the Secret`,
      ],
      [disk({ user: 'weak' }), wrong, `${about}client.weak may not open it; give it the capabilities`],
      [disk({ monitors: [NOBODY] }), good, `${about}no monitor answered within 5 seconds \\(${NOBODY}\\)`],
      [disk({ monitors: ['10.9.8.7:6789'] }), good, 'of the monitor 10.9.8.7:6789, but this node allows'],
    ] as const)
      await refused(t, containerd, list, from, new RegExp(sentence));
  });

  await t.test('a Ceph that has monitors and serves nothing does not hold a start for ever', async (t) => {
    ceph.osd.kill('SIGSTOP');
    try {
      await refused(
        t,
        containerd,
        [db],
        good,
        /QEMU did not start in time.* disk \\?"db\\?" \(rbd volumes\/db\)/,
      );
    } finally {
      ceph.osd.kill('SIGCONT');
    }
  });
});

async function create(
  containerd: Containerd,
  id: string,
  disks: readonly object[],
  from: string,
): Promise<CtrRun> {
  const flags = ['--mount', `type=bind,src=${from},dst=/vmshim/ceph,options=rbind:ro`];
  // Network `user` would keep QEMU where the pod is.
  const annotations = { 'vmshim.io/network': 'none', 'vmshim.io/disks': JSON.stringify(disks) };
  return await ctrRun(containerd, id, { flags, annotations });
}

async function boot(
  containerd: Containerd,
  id: string,
  disks: readonly object[],
  from: string,
): Promise<CtrRun> {
  return await untilReady(await create(containerd, id, disks, from));
}

/** Fails the creation with a sentence, and leaves no QEMU. */
async function refused(
  t: Test,
  containerd: Containerd,
  disks: readonly object[],
  from: string,
  sentence: RegExp,
): Promise<void> {
  const run = await create(containerd, 'refused', disks, from);
  t.not(await run.exited, 0);
  t.match(run.stderr.text, sentence);
}

async function poweroff(t: Test, run: CtrRun): Promise<void> {
  run.type('poweroff');
  t.equal(await run.exited, 0);
}

/** As kubelet mounts one. */
function secret(node: string, name: string, files: Readonly<Record<string, string>>): string {
  const volume = join(node, 'volumes/kubernetes.io~secret', name);
  mkdirSync(volume, { recursive: true });
  for (const [file, content] of Object.entries(files)) writeFileSync(join(volume, file), content);
  return volume;
}

/** Arguments and environments of shims and QEMUs, and every file of ours. */
function whatOthersSee(directory: string): string {
  const processes = processesOf(directory).flatMap(({ pid }) =>
    ['cmdline', 'environ'].map((file) => readFileSync(`/proc/${pid}/${file}`, 'latin1')),
  );
  const files = ['vms', 'data'].flatMap((part) =>
    readdirSync(join(directory, part), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(json|log)$/.test(entry.name))
      .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1')),
  );
  return [...processes, ...files].join('\n');
}
