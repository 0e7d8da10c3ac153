import type { RequestOptions } from 'node:https';
import { KubeConfig } from '@kubernetes/client-node';
import { VmError } from '../../core/errors.ts';

/** The API server, and what proves to it who asks. */
export interface Cluster {
  /** Such as `https://10.0.0.1:6443`, possibly with a path. */
  readonly server: string;
  /** Of the context; `default` where it names none. */
  readonly namespace: string;
  /** Headers, certificates and the agent of one request. Tokens are read anew: they rotate. */
  options(): Promise<RequestOptions>;
}

export interface ClusterChoice {
  /** Path of a kubeconfig file; without one the service account's, $KUBECONFIG or ~/.kube/config, as kubectl looks. */
  readonly kubeconfig?: string | undefined;
  /** Context of the kubeconfig; its current one otherwise. */
  readonly context?: string | undefined;
}

/**
 * Reads who and where we are to the API server. Everything about that is the official client library's: kubeconfig files,
 * service accounts, exec plugins, OIDC, certificates, proxies.
 * @throws VmError InvalidArgument, FailedPrecondition when there is nothing to read.
 */
export function loadCluster({ kubeconfig, context }: ClusterChoice, env: NodeJS.ProcessEnv): Cluster {
  const config = new KubeConfig();
  const origin = kubeconfig === undefined ? 'the kubeconfig' : `kubeconfig "${kubeconfig}"`;
  try {
    if (kubeconfig !== undefined) config.loadFromFile(kubeconfig);
    else if (inCluster(env)) config.loadFromCluster();
    else config.loadFromDefault();
    if (context !== undefined) config.setCurrentContext(context);
  } catch (cause) {
    throw new VmError(
      'InvalidArgument',
      `${origin} cannot be used: ${VmError.from(cause).message}; name one that can by --kubeconfig`,
      { cause },
    );
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    const name = config.getCurrentContext();
    throw new VmError(
      'InvalidArgument',
      `${origin} has no context "${name}" with a cluster; choose one that "kubectl config get-contexts" lists`,
    );
  }
  // What the library falls back to where nothing at all is configured.
  if (kubeconfig === undefined && cluster.server === 'http://localhost:8080') {
    throw new VmError(
      'FailedPrecondition',
      'nothing tells where the API server is; give --kubeconfig FILE, or run as a pod with a service account',
    );
  }
  return {
    server: cluster.server.replace(/\/+$/, ''),
    namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? 'default',
    options: async () => {
      const options: RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      return options;
    },
  };
}

function inCluster(env: NodeJS.ProcessEnv): boolean {
  const explicit = env['KUBECONFIG'] ?? '';
  return explicit === '' && (env['KUBERNETES_SERVICE_HOST'] ?? '') !== '';
}
