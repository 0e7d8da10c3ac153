import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const TOKEN = 'token-of-the-test';

/** What a server that stands in for the API server proves itself by, and what its clients do. */
export interface KubeCredentials {
  readonly key: Buffer;
  readonly cert: Buffer;
  /** The header `Authorization` of who may ask. */
  readonly authorization: string;
  /** Writes how to reach the server at that port of 127.0.0.1. @returns the path of the kubeconfig. */
  readonly kubeconfig: (port: number) => string;
}

/** Made in `directory`, which has to be empty. */
export function makeCredentials(directory: string): KubeCredentials {
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  const names = ['-subj', '/CN=kube', '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync('openssl', ['req', '-x509', ...curve, ...names, '-keyout', key, '-out', cert], {
    stdio: 'pipe',
  });
  return {
    key: readFileSync(key),
    cert: readFileSync(cert),
    authorization: `Bearer ${TOKEN}`,
    kubeconfig: (port) => {
      const path = join(directory, 'kubeconfig');
      writeFileSync(path, renderKubeconfig(`https://127.0.0.1:${port}`, cert));
      return path;
    },
  };
}

function renderKubeconfig(server: string, ca: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster: { server, 'certificate-authority': ca } }],
    users: [{ name: 'u', user: { token: TOKEN } }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  });
}
