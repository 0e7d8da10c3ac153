import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, watch } from 'node:fs';
import { join } from 'node:path';
import type { ExecOptions, ExecResult } from '../../src/host/host.ts';
import { LinuxHost } from '../../src/host/linux-host.ts';
import type { Native } from '../../src/host/native.ts';
import { type Teardown, tempDir } from './temp-dir.ts';

/** An Open vSwitch of the test's own, in the network namespace of the calling thread: nothing of it is the machine's. */
export interface OvsLab {
  /** Whose `ovs-vsctl` asks this switch. */
  readonly host: LinuxHost;
  vsctl(...args: string[]): string;
  /** SIGKILL and a new ovs-vswitchd; resolves when it has taken the database in. */
  restartSwitch(): Promise<void>;
}

class OvsHost extends LinuxHost {
  readonly #database: string;

  constructor(native: () => Native, database: string) {
    super(native);
    this.#database = database;
  }

  override exec(file: string, args: readonly string[], options?: ExecOptions): Promise<ExecResult> {
    return super.exec(file, file === 'ovs-vsctl' ? [this.#database, ...args] : args, options);
  }
}

export async function ovsLab(t: Teardown, native: Native): Promise<OvsLab> {
  const directory = tempDir(t);
  const env = {
    ...process.env,
    ...Object.fromEntries(
      ['RUNDIR', 'DBDIR', 'LOGDIR', 'SYSCONFDIR'].map((key) => [`OVS_${key}`, directory]),
    ),
  };
  const run = (file: string, ...args: string[]): string =>
    execFileSync(file, args, { env, encoding: 'utf8' });
  const [file, socket] = [join(directory, 'conf.db'), join(directory, 'db.sock')];
  const database = `--db=unix:${socket}`;
  run('ovsdb-tool', 'create', file, '/usr/share/openvswitch/vswitch.ovsschema');

  const start = (program: string, ...args: string[]): ChildProcess => {
    const control = `--unixctl=${join(directory, `${program}.ctl`)}`;
    return spawn(program, [...args, control, '--no-chdir', '-vconsole:emer'], { env, stdio: 'inherit' });
  };
  const stop = async (child: ChildProcess, signal: NodeJS.Signals): Promise<void> => {
    const ended = once(child, 'close');
    child.kill(signal);
    await ended;
  };
  const server = start('ovsdb-server', file, `--remote=punix:${socket}`);
  t.teardown(() => stop(server, 'SIGTERM'));
  await appears(directory, socket);
  run('ovs-vsctl', database, '--no-wait', 'init');

  const startSwitch = (): ChildProcess => start('ovs-vswitchd', `unix:${socket}`);
  let daemon = startSwitch();
  t.teardown(() => stop(daemon, 'SIGTERM'));
  const vsctl = (...args: string[]): string => run('ovs-vsctl', database, '--timeout=30', ...args);
  return {
    host: new OvsHost(() => native, database),
    vsctl,
    restartSwitch: async () => {
      await stop(daemon, 'SIGKILL');
      daemon = startSwitch();
      // Without --no-wait it returns when ovs-vswitchd has caught up.
      vsctl('set', 'Open_vSwitch', '.', `external_ids:restarted="${String(daemon.pid)}"`);
    },
  };
}

async function appears(directory: string, path: string): Promise<void> {
  const watcher = watch(directory);
  while (!existsSync(path)) await once(watcher, 'change');
  watcher.close();
}
