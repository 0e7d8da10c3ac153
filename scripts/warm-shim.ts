import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { containerd } from '#wire';
import { codeCache, Programs } from '../src/host/programs.ts';
import { TtrpcClient } from '../src/ttrpc/client.ts';

/**
 * Makes the code caches of the shim's bundles: `warm-shim.ts <lib>`, run by the Node that will use them. V8 keeps in a
 * cache what has been compiled, so the shim first does here what every shim does: `start`, serve, answer a call.
 */
const [, , lib = ''] = process.argv;
const directory = mkdtempSync(join(tmpdir(), 'vmshim-warm-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
const bundle = join(directory, 'bundle');
const config = join(directory, 'vmshim.toml');
mkdirSync(bundle);
writeFileSync(join(bundle, 'config.json'), '{}');
writeFileSync(config, 'accel = "tcg"\n');
process.chdir(bundle);
Object.assign(process.env, { SHIM_SOCKET_DIR: directory, VMSHIM_CONFIG: config });
process.argv = [process.execPath, lib, '-namespace', 'warm', '-id', 'warm', '-address', 'c.sock', 'start'];

const programs = new Programs();
programs.load(join(lib, 'shim.js'));
while (!existsSync('address')) await turn();
const client = await TtrpcClient.connect(readFileSync('address', 'utf8').replace('unix://', ''));
const request = containerd.task.ConnectRequest.encode({ id: 'warm' }).finish();
await client.call('containerd.task.v2.Task', 'Connect', request);
for (const name of ['cgroup-metrics', 'sandbox-methods', 'delete']) programs.load(join(lib, `${name}.js`));

for (const [path, script] of programs.scripts) {
  writeFileSync(`${path}.cache.new`, codeCache(path, script));
  renameSync(`${path}.cache.new`, `${path}.cache`);
}
process.exit(0);
