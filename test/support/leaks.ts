import { globSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** How long the kernel and containerd may take to finish what has been asked of them. */
const PATIENCE_MS = 30_000;

/**
 * What tests left below `directory` (a private containerd's) or on its behalf on this machine; empty is what every test
 * must end with. Things on their way out (a process being reaped, containerd running `delete`) are waited for.
 */
export async function leaks(directory: string): Promise<string[]> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = [...processes(directory), ...mounts(directory), ...cgroups(), ...files(directory)];
    if (found.length === 0 || Date.now() > deadline) return found;
    await delay(50);
  }
}

/** Shims and QEMUs whose environment or command line names the directory, apart from containerd itself. */
function processes(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
      const ours =
        /containerd-shim|shim\.cjs|qemu-system/.test(command) &&
        `${command}${read(`/proc/${pid}/environ`)}${cwd(pid)}`.includes(directory);
      const qemuOfOurs =
        command.includes('qemu-system') && read(`/proc/${pid}/environ`).includes('VMSHIM_KEY=');
      return ours || qemuOfOurs ? [`process ${pid}: ${command.slice(0, 120)}`] : [];
    });
}

function mounts(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(directory))
    .map((line) => `mount ${line.split(' ')[4] ?? ''}`);
}

/** ctr puts containers into /NAMESPACE/ID; ours without a path go to /vmshim. */
function cgroups(): string[] {
  return globSync([
    '/sys/fs/cgroup/*/{default,vmshim,test}/*/',
    '/sys/fs/cgroup/{default,vmshim,test}/*/',
  ]).map((path) => `cgroup ${path}`);
}

function files(directory: string): string[] {
  const patterns = ['vms/*/', 's/*', 'data/vms/*', 'fifo/*', 'state/io.containerd.runtime.v2.task/*/*'];
  return globSync(patterns.map((pattern) => `${directory}/${pattern}`)).map((path) => `file ${path}`);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function cwd(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '';
  }
}
