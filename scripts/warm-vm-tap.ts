import { chmodSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { codeCache, Programs } from '../src/host/programs.ts';
import type * as Plugin from '../src/net/cni/main.ts';

/**
 * Makes the code cache of the CNI plugin: `warm-vm-tap.ts <lib>`, run by the Node that will use it. V8 keeps in a cache
 * what has been compiled, so the plugin adds a pod here and takes it away, with an IPAM plugin that is none and nothing
 * of this machine's network touched.
 */
const [, , lib = ''] = process.argv;
const directory = mkdtempSync(join(tmpdir(), 'vmshim-warm-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
const said = { cniVersion: '1.0.0', ips: [{ address: '192.0.2.2/24', gateway: '192.0.2.1' }] };
writeFileSync(join(directory, 'warm'), `#!/bin/sh\ncat >/dev/null\necho '${JSON.stringify(said)}'\n`);
chmodSync(join(directory, 'warm'), 0o755);

// Loading it runs it.
process.env['CNI_COMMAND'] = 'VERSION';
const programs = new Programs();
const plugin = programs.load(join(lib, 'vm-tap.js')) as typeof Plugin;

class QuietHost extends plugin.LinuxHost {
  override writeText(path: string, text: string): void {
    if (!path.startsWith('/proc/')) super.writeText(path, text);
  }
}

const config = {
  ...{ cniVersion: '1.0.0', name: 'warm', type: 'vm-tap', mode: 'routed', stateDir: directory },
  ipam: { type: 'warm' },
};
for (const command of ['ADD', 'DEL']) {
  const variables = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: 'warm',
    CNI_NETNS: '/proc/self/ns/net',
    CNI_IFNAME: 'eth0',
    CNI_PATH: directory,
  };
  const { stdout, status } = await plugin.runPlugin(new QuietHost(), {
    variables,
    stdin: () => JSON.stringify(config),
  });
  if (status !== 0) throw new Error(`vm-tap ${command}: ${stdout}`);
}

for (const [path, script] of programs.scripts) {
  writeFileSync(`${path}.cache.new`, codeCache(path, script));
  renameSync(`${path}.cache.new`, `${path}.cache`);
}
process.exit(0);
