/**
 * The drive that a guest configures itself from, as a guest sees it: the test guest's Linux mounts what the shim wrote. What
 * cloud-init reads of it is in guest-data-readers.test.ts.
 */
import { mkdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Containerd, privateContainerd } from '../support/containerd.ts';
import { type CtrRun, ctrRun } from '../support/ctr-run.ts';
import { ask } from '../support/guest-shell.ts';

const SEED = /"random_seed": "([A-Za-z0-9+/]{683}=)"/;
const UUID = /"uuid": "([0-9a-f-]{36})"/;
const MARK = 'vm-drive-secret';

void t.test('a guest finds its drive', async (t) => {
  const containerd = await privateContainerd(t);

  await t.test('a config drive on vfat is the last disk, and the same one again', async (t) => {
    const annotations = {
      'vmshim.io/user-data': `#cloud-config\r\n# ${MARK}\n`,
      'vmshim.io/hostname': 'web.example',
      'vmshim.io/meta': '{"role": "web"}',
    };
    // By its boot loader, so that firmware meets the drive as well.
    const run = await boot(containerd, 'drive', { annotations, diskBoot: true });
    await ask(
      run,
      'disks',
      /disk vda \S+ ro=0 serial=root\r?\ndisk vdb bytes=67108864 ro=1 serial=guest-data/,
    );
    await mounts(run, 'vfat');
    const first = await ask(run, 'cat /run/d/openstack/latest/meta_data.json', /\{\r?\n {2}"uuid"[^]*\n\}/);
    t.match(first, /"hostname": "web.example"/);
    t.match(first, /"role": "web"/);
    t.match(first, /"address": "0000:00:02.0",[^]*"serial": "root"/, 'where the root disk is');
    const [, uuid] = UUID.exec(first) ?? [];
    t.ok(
      await ask(run, 'cat /sys/class/dmi/id/product_uuid', new RegExp(`^${uuid ?? 'none'}`, 'm')),
      'the same UUID',
    );
    await ask(run, 'cat /run/d/openstack/latest/user_data | od -c', /o\s+n\s+f\s+i\s+g\s+\\r\s+\\n/);
    await ask(run, 'sed -n 1p /run/d/openstack/2018-08-27/network_data.json', /\{/);
    await ask(run, 'echo x >/dev/vdb || echo refused', /^refused/m);
    const status = (await containerd.vmctl('status', 'drive', '--json')).stdout;
    const { timeline } = JSON.parse(status) as { timeline: { name: string; atMs: number }[] };
    const at = (step: string): number => timeline.find(({ name }) => name === step)?.atMs ?? Number.NaN;
    t.comment(`made in ${at('guest-data-ready') - at('disk-ready')} ms of a VM's start`);
    const image = join(containerd.directory, 'vms', vmKey(containerd), 'guest-data.img');
    t.match(statSync(image), { mode: 0o100600, uid: 0, size: 64 << 20 });
    t.ok(statSync(image).blocks * 512 < 512 << 10, 'sparse');
    await poweroff(t, run);
    t.notMatch(containerd.log(), new RegExp(`vmshim-shim.*${MARK}`), 'no secret in the log');

    const again = await boot(containerd, 'drive', { annotations });
    await mounts(again, 'vfat');
    const second = await ask(
      again,
      'cat /run/d/openstack/latest/meta_data.json',
      /\{\r?\n {2}"uuid"[^]*\n\}/,
    );
    t.equal(UUID.exec(second)?.[1], uuid, 'the same instance');
    t.equal(SEED.exec(second)?.[1], SEED.exec(first)?.[1], 'the same seed');
    await poweroff(t, again);
  });

  await t.test('a config drive on ISO 9660, with data of a Secret’s volume', async (t) => {
    const volume = join(containerd.directory, 'kubernetes.io~secret');
    mkdirSync(join(volume, '..2026_11_22'), { recursive: true });
    writeFileSync(join(volume, '..2026_11_22', 'userdata'), Buffer.from([0x1f, 0x8b, 0, 0xff]));
    symlinkSync('..2026_11_22', join(volume, '..data'));
    symlinkSync('..data/userdata', join(volume, 'userdata'));
    const mount = `type=bind,src=${volume},dst=/vmshim/guest-data,options=rbind:ro`;
    const annotations = { 'vmshim.io/guest-data': 'config-drive-iso' };
    const run = await boot(containerd, 'iso', {
      annotations,
      flags: ['--mount', mount, '--env', 'GREETING=good day'],
    });
    await mounts(run, 'iso9660');
    await ask(run, 'od -An -tx1 /run/d/openstack/latest/user_data', /1f 8b 00 ff/);
    await ask(run, 'cat /run/d/openstack/content/0000', /^GREETING="good day"/m);
    await poweroff(t, run);
  });

  await t.test('NoCloud, and none', async (t) => {
    const nocloud = await boot(containerd, 'nocloud', { annotations: { 'vmshim.io/guest-data': 'nocloud' } });
    await mounts(nocloud, 'vfat');
    await ask(nocloud, 'ls /run/d', /meta-data\s+network-config\s+user-data/);
    await poweroff(t, nocloud);
    const none = await boot(containerd, 'none', { annotations: { 'vmshim.io/guest-data': 'none' } });
    const disks = await ask(none, 'disks', /disk vda[^]*/);
    t.notMatch(disks, 'vdb');
    await poweroff(t, none);
  });

  await t.test('what a volume must not hold fails the creation with its name', async (t) => {
    const volume = join(containerd.directory, 'hostile');
    mkdirSync(volume);
    symlinkSync('/etc/shadow', join(volume, 'user-data'));
    const mount = `type=bind,src=${volume},dst=/vmshim/guest-data/x,options=rbind:ro`;
    const run = await ctrRun(containerd, 'hostile', { flags: ['--mount', mount] });
    await run.stderr.until(/"\/vmshim\/guest-data\/x\/user-data\\?" is a symlink/);
    t.not(await run.exited, 0);
    renameSync(join(volume, 'user-data'), join(volume, 'usr-data'));
    const misnamed = await ctrRun(containerd, 'misnamed', { flags: ['--mount', mount] });
    await misnamed.stderr.until(/is a symlink/);
    t.not(await misnamed.exited, 0);
  });
});

async function boot(
  containerd: Containerd,
  id: string,
  options: Parameters<typeof ctrRun>[2],
): Promise<CtrRun> {
  const run = await ctrRun(containerd, id, options);
  await run.console.until('vmguest: ready');
  return run;
}

/** Types a line at the guest's prompt and gives back what the pattern found in the answer. */
async function mounts(run: CtrRun, type: 'vfat' | 'iso9660'): Promise<void> {
  const [modules, options] =
    type === 'vfat' ? ['vfat nls_cp437 nls_ascii', 'ro,iocharset=ascii'] : ['isofs', 'ro'];
  const mount = `mount -t ${type} -o ${options} /dev/vdb /run/d`;
  await ask(run, `modprobe -a ${modules}; mkdir /run/d; ${mount} && echo mounted`, /^mounted/m);
}

async function poweroff(t: Test, run: CtrRun): Promise<void> {
  run.type('poweroff');
  t.equal(await run.exited, 0);
}

/** The only VM's directory. */
function vmKey(containerd: Containerd): string {
  const pointer = readFileSync(join(containerd.bundle('drive'), 'vmshim-record'), 'utf8');
  return /([0-9a-f]{20})/.exec(pointer)?.[1] ?? '';
}
