import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { execa } from 'execa';
import type { KubeServer } from './kube-server.ts';
import { tempDir, type Teardown } from './temp-dir.ts';

const scripts = join(import.meta.dirname, '../../scripts');

/** Debian's kubectls: the oldest that we look at and the newest. */
export type KubectlRelease = 'bookworm' | 'sid';

export interface Ended {
  readonly status: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** The shell of an operator with the kubectl of a Debian release, a home of its own, and `bin` in the PATH for plugins. */
export function operatorShell(
  t: Teardown,
  release: KubectlRelease,
  kube: KubeServer,
  bin: string,
): (line: string) => Promise<Ended> {
  const directory = execFileSync(join(scripts, 'build-kubectl'), [release], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim();
  const env = {
    HOME: tempDir(t),
    KUBECONFIG: kube.kubeconfig,
    PATH: [bin, directory, '/usr/bin', '/bin'].join(':'),
  };
  return async (line) => {
    const { exitCode, stdout, stderr } = await execa('sh', ['-c', line], {
      ...{ env, extendEnv: false, reject: false, stdin: 'ignore', cwd: join(scripts, '..') },
    });
    return { status: exitCode, stdout, stderr };
  };
}
