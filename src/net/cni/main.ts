import { LinuxHost } from '../../host/linux-host.ts';
import { readStdin, writeStdout } from '../../host/standard-streams.ts';
import { CNI_VERSIONS } from './cni-version.ts';
import { runPlugin } from './run-plugin.ts';

/** The program that container runtimes run. */
async function main(): Promise<void> {
  if ((process.env['CNI_COMMAND'] ?? '') === '') {
    process.stderr.write(
      `vm-tap is a CNI plugin: a container runtime runs it, see docs/cni.md. It supports CNI ${CNI_VERSIONS.join(', ')}.\n`,
    );
    return;
  }
  const stopped = new AbortController();
  process.once('SIGTERM', () => stopped.abort());
  const { stdout, status } = await runPlugin(new LinuxHost(), {
    variables: process.env,
    stdin: () => readStdin().toString(),
    signal: stopped.signal,
  });
  writeStdout(stdout);
  process.exitCode = status;
}

void main();

// scripts/warm-vm-tap.ts runs them again on a host of its own.
export { LinuxHost, runPlugin };
