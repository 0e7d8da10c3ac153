import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import type { NodeNetwork } from './cri-node-network.ts';
import { type Teardown, tempDir } from './temp-dir.ts';

/** What came of an attempt to log in. */
export interface Login {
  readonly said: string;
  readonly status: number | undefined;
}

/** Somebody with a key of their own, who knows the guests' host keys beforehand and trusts no other. */
export class SshUser {
  /** As it stands in `authorized_keys`. */
  readonly publicKey: string;
  readonly #directory: string;

  constructor(t: Teardown) {
    this.#directory = tempDir(t);
    const file = join(this.#directory, 'key');
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'me@example', '-f', file]);
    this.publicKey = readFileSync(`${file}.pub`, 'utf8').trim();
  }

  /**
   * Runs a command in a guest.
   * @param hostKey the guest's, as in its `ssh_host_*_key.pub`.
   * @returns its output and status; 255 and ssh's complaint when nobody was let in.
   */
  async run(
    { enter }: NodeNetwork,
    { address, hostKey, user }: { readonly address: string; readonly hostKey: string; readonly user: string },
    command: string,
  ): Promise<Login> {
    // Of this guest alone: several may be logged in to at once.
    const known = join(this.#directory, `known_hosts-${address.replaceAll(':', '-')}`);
    writeFileSync(known, `${address} ${hostKey.trim()}\n`);
    const options = {
      BatchMode: 'yes',
      PreferredAuthentications: 'publickey',
      StrictHostKeyChecking: 'yes',
      UserKnownHostsFile: known,
      GlobalKnownHostsFile: '/dev/null',
      IdentitiesOnly: 'yes',
      IdentityAgent: 'none',
    };
    const given = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
    const [file = '', ...entered] = enter;
    const args = ['ssh', '-F', 'none', '-i', join(this.#directory, 'key'), ...given, '-l', user, address];
    const { all, exitCode } = await execa(file, [...entered, ...args, command], {
      all: true,
      reject: false,
      stdin: 'ignore',
    });
    return { said: all, status: exitCode };
  }
}
