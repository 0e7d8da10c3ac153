import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Containerd } from './containerd.ts';
import { containerdRelease } from './containerd-release.ts';
import { systemctl } from './cri-slices.ts';
import { leaks } from './leaks.ts';
import { type Teardown, tempDir } from './temp-dir.ts';

const UNIT = 'containerd.service';
const DROP_IN = `/run/systemd/system/${UNIT}.d`;

/**
 * A private containerd that is the service of the distribution's package, on a node where systemd is the init: what that unit
 * says of kill mode, delegation and OOM score holds, and only its command is ours.
 */
export class ContainerdService extends Containerd {
  /** @param left looks for what else may be left when the test ends, one text each. */
  static async run(t: Teardown, left: () => string[]): Promise<ContainerdService> {
    const service = new ContainerdService(tempDir(t), await containerdRelease('host'), {});
    t.teardown(async () => {
      const found = await leaks(service.directory, undefined, left);
      await service.stop();
      rmSync(DROP_IN, { recursive: true });
      systemctl('daemon-reload');
      if (found.length > 0)
        throw new Error(`left behind:\n${found.join('\n')}\n${service.log().slice(-4000)}`);
    });
    mkdirSync(DROP_IN, { recursive: true });
    writeFileSync(join(DROP_IN, 'test.conf'), service.#dropIn());
    systemctl('daemon-reload');
    await service.start();
    return service;
  }

  override get pid(): number {
    return Number(systemctl('show', UNIT, '--property=MainPID', '--value'));
  }

  /** The unit's cgroup, as /proc/PID/cgroup has it. */
  get cgroup(): string {
    return systemctl('show', UNIT, '--property=ControlGroup', '--value').trim();
  }

  /** Returns when containerd has told systemd that it is ready. */
  override start(): Promise<void> {
    systemctl('start', UNIT);
    return Promise.resolve();
  }

  override stop(): Promise<void> {
    systemctl('stop', UNIT);
    return Promise.resolve();
  }

  restart(): void {
    systemctl('restart', UNIT);
  }

  /** Nothing else of a system runs in the test-bed's node, so its default dependencies must not be started. */
  #dropIn(): string {
    const environment = Object.entries(this.environment()).map(
      ([name, value]) => `Environment="${name}=${value}"`,
    );
    return `[Unit]
DefaultDependencies=no
[Service]
ExecStart=
ExecStart=/usr/bin/containerd --config ${join(this.directory, 'containerd.toml')}
StandardOutput=null
StandardError=append:${this.logFile}
${environment.join('\n')}
`;
  }
}
