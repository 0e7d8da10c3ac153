/**
 * Directories that node and guest share, through real containerd and virtiofsd: what each sees of the other's files, what a
 * read-only one refuses, how confined its server is, and that nothing is left of it however the VM ends.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Containerd, privateContainerd } from '../support/containerd.ts';
import { type CtrRun, ctrRun, untilReady } from '../support/ctr-run.ts';
import { ask } from '../support/guest-shell.ts';
import { processEnded } from '../support/shim-client.ts';
import { tempDir } from '../support/temp-dir.ts';

void t.test('a guest and its node share directories', async (t) => {
  const { containerd, node, flags, ...shared } = await lab(t);

  await t.test('files go both ways, and no further', (t) => bothWays(t, { containerd, flags, ...shared }));

  await t.test('a server that ends is told of, and the VM goes on and can be removed', async (t) => {
    const run = await boot(containerd, 'losing', flags, [{ volume: '/data' }]);
    const [first] = serversOf(await qemuPid(containerd, 'losing'));
    process.kill(first?.pid ?? 0, 'SIGKILL');
    const lost = /warning +the guest has lost a shared directory .* volume at "\/data"/;
    while (!lost.test((await containerd.vmctl('status', 'losing')).stdout)) await delay(50);
    await ask(run, 'echo still here', /^still here/m);
    run.type('poweroff');
    t.equal(await run.exited, 0);
  });

  await t.test('what cannot be shared is refused', async (t) => {
    writeFileSync(join(node, 'file'), '');
    const file = bind(join(node, 'file'), '/file', 'rw');
    await refused(
      t,
      containerd,
      file,
      [{ volume: '/file' }],
      /the volume at \\?"\/file\\?" is to be shared, but is a file/,
    );
  });
});

for (const suite of ['trixie', 'sid']) {
  void t.test(`files go both ways, and no further, by the virtiofsd of Debian ${suite}`, async (t) => {
    const program = execFileSync(join(import.meta.dirname, '../../scripts/build-virtiofsd'), [suite], {
      encoding: 'utf8',
    }).trim();
    await bothWays(t, await lab(t, { shimConfig: `virtiofsd = "${program}"\n` }));
  });
}

interface Lab {
  readonly containerd: Containerd;
  /** A directory of the node with those that are shared, and the flags that give them to a container. */
  readonly node: string;
  readonly data: string;
  readonly web: string;
  readonly flags: readonly string[];
}

async function lab(t: Test, options: { readonly shimConfig?: string } = {}): Promise<Lab> {
  const node = tempDir(t);
  const containerd = await privateContainerd(t, options);
  const [data, web, plain] = [directory(node, 'da,ta'), directory(node, 'web'), directory(node, 'plain')];
  writeFileSync(join(data, 'greeting'), 'good day\n');
  writeFileSync(join(web, 'page'), 'hello\n');
  const flags = [...bind(data, '/data', 'rw'), ...bind(web, '/web', 'ro'), ...bind(plain, '/plain', 'rw')];
  return { containerd, node, data, web, flags };
}

async function bothWays(t: Test, { containerd, data, web, flags }: Omit<Lab, 'node'>): Promise<void> {
  const run = await boot(containerd, 'sharing', flags, [
    { volume: '/data' },
    { volume: '/web', cache: 'never' },
  ]);
  await ask(run, 'modprobe virtiofs; mkdir /run/data /run/web; echo loaded', /^loaded/m);
  await ask(run, 'mount -t virtiofs data /run/data && cat /run/data/greeting', /^good day/m);
  await ask(run, 'mount -t virtiofs web /run/web && cat /run/web/page', /^hello/m);
  await ask(
    run,
    'echo written >/run/data/note; chown 1000:1001 /run/data/note; mkdir /run/data/sub; sync; echo done',
    /^done/m,
  );
  t.equal(readFileSync(join(data, 'note'), 'utf8'), 'written\n');
  t.match(statSync(join(data, 'note')), { uid: 1000, gid: 1001 });
  t.ok(statSync(join(data, 'sub')).isDirectory());
  await ask(run, 'echo x >/run/web/page || echo refused', /Read-only file system[^]*^refused/m);
  await ask(run, 'mount -o remount,rw /run/web; echo x >/run/web/other || echo refused', /^refused/m);
  await ask(run, 'mknod /run/data/disk b 7 0 || echo no-node', /^no-node/m);
  t.equal(readFileSync(join(web, 'page'), 'utf8'), 'hello\n');
  writeFileSync(join(web, 'page'), 'changed\n');
  await ask(run, 'cat /run/web/page', /^changed/m);
  const status = (await containerd.vmctl('status', 'sharing')).stdout;
  t.match(status, /shared +data: virtiofs, the volume \/data \(\S+\/da,ta\)/);
  t.match(status, /shared +web: virtiofs, read-only, the volume \/web /);
  t.match(status, /warning +the guest does not see the volume at \/plain/);
  t.notMatch(status, /does not see the volume at \/data/);

  const qemu = await qemuPid(containerd, 'sharing');
  const servers = serversOf(qemu);
  t.equal(servers.length, 4, 'each has a parent that waits for it');
  for (const { pid, capabilities } of servers) {
    t.equal(cgroups(pid), cgroups(qemu));
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID, or none.
    t.ok([0xdb, 0].includes(capabilities), capabilities.toString(16));
    t.not(readlinkSync(`/proc/${pid}/ns/net`), readlinkSync('/proc/self/ns/net'));
    t.equal(readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trim().split('\n').length, 1, 'one mount is all');
  }
  run.type('poweroff');
  t.equal(await run.exited, 0);
  for (const { pid } of servers) await processEnded(pid);
}

interface Server {
  readonly pid: number;
  readonly capabilities: number;
}

async function qemuPid(containerd: Containerd, id: string): Promise<number> {
  return (JSON.parse((await containerd.vmctl('status', id, '--json')).stdout) as { qemuPid: number }).qemuPid;
}

/** What virtiofsd is called by the kernel; of another release it is started by its own loader. */
const SERVERS = ['virtiofsd', 'ld-linux-x86-64'];

/** The virtiofsds that have the same mark in their environment as this QEMU. */
function serversOf(qemu: number): Server[] {
  const mark = /VMSHIM_KEY=\w+/.exec(readFileSync(`/proc/${qemu}/environ`, 'utf8'))?.[0] ?? '';
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const read = (file: string): string => readFileSync(`/proc/${name}/${file}`, 'utf8');
      if (!SERVERS.includes(read('comm').trim()) || !read('environ').includes(mark)) return [];
      const [, bits = ''] = /^CapEff:\s*(\w+)$/m.exec(read('status')) ?? [];
      return [{ pid: Number(name), capabilities: Number.parseInt(bits, 16) }];
    } catch {
      // Other processes come and go meanwhile.
      return [];
    }
  });
}

function cgroups(pid: number): string {
  return readFileSync(`/proc/${pid}/cgroup`, 'utf8');
}

void t.test('a virtiofsd that is not there or does not work is named', async (t) => {
  const node = tempDir(t);
  const program = join(node, 'virtiofsd');
  const containerd = await privateContainerd(t, { shimConfig: `virtiofsd = "${program}"\n` });
  const flags = bind(directory(node, 'data'), '/data', 'rw');
  const shared = [{ volume: '/data' }];
  await refused(t, containerd, flags, shared, /there is no virtiofsd at \S+; install it on this node/);
  writeFileSync(program, '#!/bin/sh\necho it knows nothing of this >&2\nexit 1\n', { mode: 0o755 });
  await refused(
    t,
    containerd,
    flags,
    shared,
    /virtiofsd for the volume at \S+ ended: it knows nothing of this/,
  );
});

function directory(node: string, path: string): string {
  mkdirSync(join(node, path), { recursive: true });
  return join(node, path);
}

function bind(source: string, destination: string, access: 'rw' | 'ro'): string[] {
  return ['--mount', `type=bind,"src=${source}",dst=${destination},options=rbind:${access}`];
}

async function create(
  containerd: Containerd,
  id: string,
  flags: readonly string[],
  shared: readonly object[],
): Promise<CtrRun> {
  return await ctrRun(containerd, id, {
    flags,
    annotations: { 'vmshim.io/shared-directories': JSON.stringify(shared) },
  });
}

async function boot(...wish: Parameters<typeof create>): Promise<CtrRun> {
  return await untilReady(await create(...wish));
}

async function refused(
  t: Test,
  containerd: Containerd,
  flags: readonly string[],
  shared: readonly object[],
  sentence: RegExp,
): Promise<void> {
  const run = await create(containerd, 'refused', flags, shared);
  t.not(await run.exited, 0);
  t.match(run.stderr.text, sentence);
}
