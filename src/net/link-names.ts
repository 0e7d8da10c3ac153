import type { Host } from '../host/host.ts';
import type { Native } from '../host/native.ts';
import { inNetworkNamespace } from '../host/network-namespace.ts';

/** Made by the kernel in every new namespace where their module is loaded; nobody's. */
const FALLBACK_TUNNELS = /^(tunl0|sit0|gre0|gretap0|erspan0|ip_vti0|ip6_vti0|ip6tnl0|ip6gre0)$/;

/**
 * Names of the links in a network namespace, without a process being run for it: proc(5), /proc/net/dev.
 * @throws VmError NotFound where there is no such namespace.
 */
export function listLinkNames({ host, native }: { host: Host; native: Native }, netns: string): string[] {
  const text = inNetworkNamespace(native, netns, () => host.readText('/proc/thread-self/net/dev'));
  return text
    .split('\n')
    .flatMap((line) => /^ *([^ ]+): /.exec(line)?.[1] ?? [])
    .filter((name) => !FALLBACK_TUNNELS.test(name));
}
