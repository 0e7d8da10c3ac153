import type { EnvVariable } from '../../core/guest-data-spec.ts';
import type { InjectedFile } from './guest-data.ts';

/** Where Virtlet put it. */
const PATH = '/etc/cloud/environment';

/** Needs no quotes, neither for a shell nor for systemd's EnvironmentFile. */
const PLAIN = /^[A-Za-z0-9_@%+=:,./-]*$/;

/** The container's environment as a file that a shell, and systemd, read; nothing where there is none. */
export function environmentFile(env: readonly EnvVariable[]): InjectedFile[] {
  if (env.length === 0) return [];
  const lines = env.map(({ name, value }) => `${name}=${PLAIN.test(value) ? value : quote(value)}\n`);
  return [{ path: PATH, content: Buffer.from(lines.join('')) }];
}

function quote(value: string): string {
  return `"${value.replaceAll(/["\\$`]/g, '\\$&')}"`;
}
