import type { UnaryMethod } from '../ttrpc/method.ts';
import type { SandboxServiceDeps } from './sandbox-methods.ts';

/** containerd 1.7 and later; source: containerd api/runtime/sandbox/v1/sandbox.proto. */
export const SANDBOX_SERVICE = 'containerd.runtime.sandbox.v1.Sandbox';

const METHODS = [
  'CreateSandbox',
  'StartSandbox',
  'Platform',
  'StopSandbox',
  'WaitSandbox',
  'SandboxStatus',
  'PingSandbox',
  'ShutdownSandbox',
  'SandboxMetrics',
] as const;

/**
 * The sandbox API. Its code and its codec are a bundle of their own that the first call loads: most nodes make sandboxes
 * as tasks, and their shims must not grow by it.
 */
export function sandboxService(deps: SandboxServiceDeps): Record<string, UnaryMethod> {
  let methods: Promise<Record<(typeof METHODS)[number], UnaryMethod>> | undefined;
  return Object.fromEntries(
    METHODS.map((name): [string, UnaryMethod] => [
      name,
      {
        kind: 'unary',
        handle: async (payload, call) => {
          methods ??= import('./sandbox-methods.ts').then((module) => module.sandboxMethods(deps));
          return await (await methods)[name].handle(payload, call);
        },
      },
    ]),
  );
}
