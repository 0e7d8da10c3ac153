import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { networkLabHere } from '../../support/network-lab.ts';
import { tempDir } from '../../support/temp-dir.ts';
import type { BenchScope } from '../bench-scope.ts';
import { Samples } from '../samples.ts';

/** Milliseconds from exec to the end of a plugin. */
export interface CniTime {
  readonly add: Samples;
  readonly del: Samples;
}

const DIRECTORIES = [join(import.meta.dirname, '../../../bin'), '/usr/lib/cni'];

/** vm-tap and the stock plugins that leave a veth, each with addresses of host-local, in turns. */
export function measureCni(scope: BenchScope, rounds: number): ReadonlyMap<string, CniTime> {
  const directory = tempDir(scope);
  const netns = networkLabHere().netns(scope);
  const stateDir = join(directory, 'state');
  const networks = {
    vm_tap_bridge: { type: 'vm-tap', bridge: 'cni0', isGateway: true, stateDir },
    vm_tap_routed: { type: 'vm-tap', mode: 'routed', stateDir },
    bridge: { type: 'bridge', bridge: 'cni1', isGateway: true },
    ptp: { type: 'ptp' },
  };
  const runs = Object.entries(networks).map(([name, plugin], index) => {
    const ranges = [[{ subnet: `10.7${index + 2}.0.0/24` }]];
    const ipam = {
      type: 'host-local',
      dataDir: join(directory, name),
      ranges,
      routes: [{ dst: '0.0.0.0/0' }],
    };
    const config = JSON.stringify({ cniVersion: '1.0.0', name, ...plugin, ipam });
    const time: CniTime = { add: new Samples(), del: new Samples() };
    const run = (command: 'ADD' | 'DEL', sandbox: string): number =>
      timePlugin(plugin.type, config, {
        CNI_COMMAND: command,
        CNI_CONTAINERID: sandbox,
        CNI_NETNS: netns,
        CNI_IFNAME: 'eth0',
        CNI_PATH: DIRECTORIES.join(':'),
      });
    return { name, time, run };
  });
  // The first round makes bridges and firewall tables, and warms the page cache.
  for (let round = 0; round <= rounds; round++) {
    for (const { time, run } of runs) {
      const sandbox = `sandbox-${round}`;
      const [add, del] = [run('ADD', sandbox), run('DEL', sandbox)];
      if (round === 0) continue;
      time.add.add(add);
      time.del.add(del);
    }
  }
  return new Map(runs.map(({ name, time }) => [name, time]));
}

function timePlugin(type: string, config: string, variables: Readonly<Record<string, string>>): number {
  const path = DIRECTORIES.map((each) => join(each, type)).find((file) => existsSync(file)) ?? type;
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...variables };
  const began = performance.now();
  const { status, stdout, stderr } = spawnSync(path, { input: config, env, encoding: 'utf8' });
  const time = performance.now() - began;
  if (status !== 0) throw new Error(`${type} ${variables['CNI_COMMAND'] ?? ''}: ${stdout}${stderr}`);
  return time;
}
