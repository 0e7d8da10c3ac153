import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Teardown, tempDir } from './temp-dir.ts';
import { type TestNetns, testNetns } from './test-netns.ts';

const REPOSITORY = join(import.meta.dirname, '../..');
const MONITOR = '127.0.0.1:6789';

/**
 * A Ceph of its own: one monitor and one OSD, in a network namespace from which alone they can be reached. Objects are in the
 * OSD's memory. A pool has one replica and needs no manager.
 */
export interface CephLab {
  readonly netns: TestNetns;
  readonly monitor: string;
  /** Runs one of Ceph's tools as its administrator, in the cluster's directory `/cluster`; gives its stdout. */
  run(program: 'ceph' | 'rbd' | 'rados', ...args: readonly string[]): string;
  /** Where `/cluster` is. */
  readonly directory: string;
  /** The OSD, for tests that stop it. */
  readonly osd: ChildProcess;
}

/** Takes about 10 s. */
export function cephLab(t: Teardown): CephLab {
  const root = execFileSync(join(REPOSITORY, 'scripts/build-ceph'), { encoding: 'utf8' }).trim();
  const directory = tempDir(t);
  const netns = testNetns(t);
  // Private mounts: gone with the process. The OSD wants /proc, Python /dev/urandom.
  const inside = (program: string, args: readonly string[]): string[] => [
    ...['netns', 'exec', netns.name, 'unshare', '--mount', '--propagation', 'private', 'sh', '-ec'],
    'root=$1; mount --bind "$2" "$root/cluster"; mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; shift 2; exec chroot "$root" "$@"',
    ...['sh', root, directory, program, '-c', '/cluster/ceph.conf', ...args],
  ];
  const call = (program: string, ...args: readonly string[]): string =>
    execFileSync('ip', inside(program, args), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const daemon = (program: string, ...args: readonly string[]): ChildProcess => {
    // Everything before the program makes way for it, so this is its process.
    const child = spawn('ip', inside(program, ['-f', ...args]), { stdio: 'ignore' });
    const ended = once(child, 'exit');
    t.teardown(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    return child;
  };

  const fsid = randomUUID();
  writeFileSync(join(directory, 'ceph.conf'), configuration(fsid));
  for (const name of ['mon', 'osd']) mkdirSync(join(directory, name));
  const keys = ['/cluster/keyring', '--create-keyring', '--gen-key', '-n', 'mon.', '--cap', 'mon', 'allow *'];
  call('ceph-authtool', ...keys);
  for (const name of ['client.admin', 'osd.0']) {
    const capabilities = ['mon', 'mgr', 'osd'].flatMap((kind) => ['--cap', kind, 'allow *']);
    call('ceph-authtool', '/cluster/keyring', '--gen-key', '-n', name, ...capabilities);
  }
  call('monmaptool', '--create', '--fsid', fsid, '--addv', 'a', `v1:${MONITOR}`, '/cluster/monmap');
  call('ceph-mon', '--mkfs', '-i', 'a', '--monmap', '/cluster/monmap', '-k', '/cluster/keyring');
  daemon('ceph-mon', '-i', 'a');
  const uuid = randomUUID();
  // This waits for the monitor, and whoever makes an image later for the OSD.
  call('ceph', 'osd', 'new', uuid);
  call('ceph', 'auth', 'add', 'osd.0', '-i', '/cluster/keyring');
  call('ceph-osd', '--mkfs', '-i', '0', '--osd-uuid', uuid);
  const osd = daemon('ceph-osd', '-i', '0');
  call('ceph', 'osd', 'pool', 'create', 'volumes', '1');
  const run: CephLab['run'] = (program, ...args) => call(program, ...args);
  return { netns, monitor: MONITOR, run, directory, osd };
}

function configuration(fsid: string): string {
  return `[global]
fsid = ${fsid}
mon_host = v1:${MONITOR}
mon_data = /cluster/mon
osd_data = /cluster/osd
keyring = /cluster/keyring
run_dir = /cluster
admin_socket =
log_file =
mon_cluster_log_file =
pid_file =
ms_bind_msgr2 = false
auth_allow_insecure_global_id_reclaim = false
mon_allow_pool_size_one = true
mon_data_avail_crit = 0
mon_data_avail_warn = 0
osd_objectstore = memstore
memstore_device_bytes = 268435456
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
`;
}
