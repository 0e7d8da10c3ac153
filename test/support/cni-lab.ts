import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { CniAttachment, CniPlugin } from './cni-chain.ts';
import { type Teardown, tempDir } from './temp-dir.ts';
import { testNetns, type TestNetns } from './test-netns.ts';

/** A node for CNI plugins alone: a network namespace, a state directory and a store of the real host-local. */
export interface CniLab {
  /** Stands for the node. */
  readonly node: TestNetns;
  readonly directory: string;
  readonly stateDir: string;
  readonly dataDir: string;
  /** vm-tap on the bridge, which it makes, with addresses from the real host-local. */
  readonly vmTap: (...subnets: string[]) => CniPlugin;
  readonly pod: (sandboxId: string, more?: Partial<CniAttachment>) => CniAttachment;
  /** What ADDs left: files of NICs' sandboxes, and addresses in host-local's store. */
  readonly left: () => string[];
}

/** @param bridge no other test's, so that it would show if it were made outside of the test's namespaces. */
export function cniLab(t: Teardown, bridge: string): CniLab {
  const [node, directory] = [testNetns(t), tempDir(t)];
  const [stateDir, dataDir] = [join(directory, 'state'), join(directory, 'ipam')];
  const names = (path: string): string[] => (existsSync(path) ? readdirSync(path) : []);
  return {
    node,
    directory,
    stateDir,
    dataDir,
    vmTap: (...subnets) => ({
      type: 'vm-tap',
      bridge,
      isGateway: true,
      stateDir,
      ipam: { type: 'host-local', dataDir, ranges: subnets.map((subnet) => [{ subnet }]) },
    }),
    pod: (sandboxId, more) => ({
      sandboxId,
      netns: testNetns(t).path,
      args: { K8S_POD_UID: `uid-${sandboxId}`, K8S_POD_NAME: 'vm' },
      ...more,
    }),
    left: () => [
      ...names(join(stateDir, 'cni')),
      ...names(join(dataDir, 'vms')).filter((name) => /^[0-9a-f]+[.:]/.test(name)),
    ],
  };
}
