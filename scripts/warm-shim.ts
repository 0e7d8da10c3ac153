import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { containerd } from '#wire';
import { parseConfig } from '../src/core/config.ts';
import { parseVmSpec } from '../src/core/parse-spec.ts';
import { LinuxHost } from '../src/host/linux-host.ts';
import { codeCache, Programs } from '../src/host/programs.ts';
import { TtrpcClient } from '../src/ttrpc/client.ts';

type GuestDrive = typeof import('../src/vm/guest-drive.ts');

/**
 * Makes the code caches of the shim's bundles: `warm-shim.ts <lib>`, run by the Node that will use them. V8 keeps in a
 * cache what has been compiled, so the shim first does here what every shim does: `start`, serve, answer a call, and make a guest's drive.
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
for (const name of ['cgroup-metrics', 'sandbox-methods', 'open-vm-disks', 'share-directories', 'delete'])
  programs.load(join(lib, `${name}.js`));
await makeDrive();

for (const [path, script] of programs.scripts) {
  writeFileSync(`${path}.cache.new`, codeCache(path, script));
  renameSync(`${path}.cache.new`, `${path}.cache`);
}
process.exit(0);

/** The drive of a pod with a card of each family. */
async function makeDrive(): Promise<void> {
  const { makeGuestDrive } = programs.load(join(lib, 'guest-drive.js')) as GuestDrive;
  const spec = parseVmSpec({
    id: 'warm',
    namespace: 'warm',
    spec: { annotations: { 'vmshim.io/network': 'pod' }, process: { env: ['GREETING=good day'] } },
    config: parseConfig('', config),
    podNetwork: true,
  });
  const addresses = [
    { address: '10.0.0.2', prefixLength: 24, gateway: '10.0.0.1' },
    { address: 'fd00::2', prefixLength: 64, gateway: 'fe80::1' },
  ];
  const dns = { nameservers: ['10.0.0.1'], search: ['warm'] };
  const guest = { ifName: 'eth0', mac: '52:54:00:00:00:01', mtu: 1500, addresses, routes: [], dns };
  const nic = { kind: 'netns', netns: '', tap: 'warm0', guest, guarded: false, router6: undefined } as const;
  const place = { runDir: directory, dataDir: directory, hasRootDisk: true, volumes: [] };
  (await makeGuestDrive(new LinuxHost(), spec, place, [nic]))?.[Symbol.dispose]();
}
