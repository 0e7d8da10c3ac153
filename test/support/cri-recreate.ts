import { rmSync } from 'node:fs';
import type { Test } from 'tap';
import type { CriNode } from './cri-containerd.ts';
import { type ContainerOptions, type CriContainer, CriPod } from './cri-pod.ts';
import { processEnded } from './shim-client.ts';
import { pidOf, vmRecord } from './vm-record.ts';

export interface RunningPod {
  readonly pod: CriPod;
  readonly vm: CriContainer;
  readonly attempt: number;
}

/** SIGKILL for the shim of a pod; resolves when CRI has told of the end of sandbox and container. */
export async function killShim({ containerd }: CriNode, { pod, vm }: RunningPod): Promise<void> {
  const shim = pidOf(vmRecord(containerd, vm.id, 'k8s.io').shim);
  process.kill(shim, 'SIGKILL');
  await processEnded(shim);
  await vm.exited();
  await pod.ended();
}

/** What kubelet does about a sandbox that has ended by itself, with `removeOld` before it runs the pod again or not. */
export async function recreate(
  t: Test,
  node: CriNode,
  { pod, attempt }: RunningPod,
  options: ContainerOptions & { readonly removeOld?: boolean } = {},
): Promise<RunningPod> {
  const { removeOld = true, ...container } = options;
  await pod.stop();
  if (removeOld) await pod.remove();
  const { name, uid } = pod.config.metadata;
  const next = await CriPod.run(t, node, {
    name,
    uid,
    attempt: attempt + 1,
    annotations: pod.config.annotations ?? {},
  });
  const vm = await next.start({ stdin: true, attempt: attempt + 1, ...container });
  return { pod: next, vm, attempt: attempt + 1 };
}

/** The pod's directory goes when kubelet has given it up. */
export function forgetPod({ directory }: CriPod): void {
  rmSync(directory, { recursive: true, force: true });
}
