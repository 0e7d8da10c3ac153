import { VmError } from '../core/errors.ts';
import type { Host } from './host.ts';

/**
 * Says how soon the kernel kills a process for memory, -1000 (never) to 1000 (first), by proc_pid_oom_score_adj(5).
 * Undefined: as an ordinary process, where we descend from one that service managers spare, such as containerd.
 * @throws VmError with the field of the spec, where the kernel refuses: less than it has needs CAP_SYS_RESOURCE.
 */
export function setOomScore(host: Host, pid: number, score: number | undefined): void {
  const file = `/proc/${pid}/oom_score_adj`;
  if (score === undefined) {
    if (Number(host.readText(file)) < 0) host.writeText(file, '0');
    return;
  }
  try {
    host.writeText(file, String(score));
  } catch (error) {
    throw VmError.from(error, `process.oomScoreAdj of the container's spec is ${score} and cannot be set`);
  }
}
