import { globSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { patience } from './machine-traits.ts';

/** How long the kernel and containerd may take to finish what has been asked of them. */
const PATIENCE_MS = patience(120_000);

/**
 * What tests left below `directory` (a private containerd's) or on its behalf on this machine; empty is what every test
 * must end with. Things on their way out (a process being reaped, containerd running `delete`) are waited for.
 * @param cgroupParents cgroups in which nothing may be left.
 * @param more looks for what else may be left, one text each.
 * @param withinMs how long is waited for things on their way out.
 */
export async function leaks(
  directory: string,
  cgroupParents: readonly string[] = cgroupParentsOf(directory),
  more: () => string[] = () => [],
  withinMs = PATIENCE_MS,
): Promise<string[]> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const found = [
      ...processes(directory),
      ...mounts(directory),
      ...cgroups(directory, cgroupParents),
      ...files(directory),
      ...more(),
    ];
    if (found.length === 0 || Date.now() > deadline) return found;
    await delay(50);
  }
}

/**
 * Where VMs of a test are: in a cgroup named after its directory, as test files run at the same time and have the same ids.
 * The other is the shim's own choice for a VM without a path, which no test makes.
 */
function cgroupParentsOf(directory: string): string[] {
  return [basename(directory), 'vmshim'];
}

function processes(directory: string): string[] {
  return processesOf(directory).map(({ pid, command }) => `process ${pid}: ${command.slice(0, 120)}`);
}

/** Shims and QEMUs whose environment, command line or open files name the directory, apart from containerd itself. */
export function processesOf(directory: string): { pid: number; command: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
      const ours =
        /containerd-shim|shim\.cjs|qemu-system|virtiofsd/.test(command) && belongsTo(pid, directory);
      return ours ? [{ pid: Number(pid), command }] : [];
    });
}

/** QEMU has none of our paths on its command line, but its log open. */
function belongsTo(pid: string, directory: string): boolean {
  return [
    read(`/proc/${pid}/cmdline`),
    read(`/proc/${pid}/environ`),
    link(`/proc/${pid}/cwd`),
    link(`/proc/${pid}/fd/1`),
  ].some((text) => text.includes(directory));
}

function mounts(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(directory))
    .map((line) => `mount ${line.split(' ')[4] ?? ''}`);
}

/** One in which processes of somebody else live is another test's. */
function cgroups(directory: string, parents: readonly string[]): string[] {
  return parents
    .flatMap((parent) => globSync([`/sys/fs/cgroup/*/${parent}/*/`, `/sys/fs/cgroup/${parent}/*/`]))
    .filter((path) => {
      const pids = read(`${path}/cgroup.procs`)
        .split('\n')
        .filter((pid) => pid !== '');
      return pids.length === 0 || pids.some((pid) => belongsTo(pid, directory));
    })
    .map((path) => `cgroup ${path}`);
}

function files(directory: string): string[] {
  const patterns = [
    'vms/!(cni)/',
    'vms/cni/*',
    'vms/{kept,owner}-*',
    's/*',
    'data/vms/*',
    'fifo/*',
    'state/io.containerd.{runtime.v2.task,sandbox.controller.v1.shim}/*/*',
  ];
  return globSync(patterns.map((pattern) => `${directory}/${pattern}`)).map((path) => `file ${path}`);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
