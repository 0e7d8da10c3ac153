import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { expectNesting } from '../../../src/qemu/nesting.ts';
import { tempDir } from '../../support/temp-dir.ts';

void t.test('a node says whether its guests can be hypervisors', (t) => {
  const host = new LinuxHost();
  const says = (module: string, value: string): string => {
    const root = tempDir(t);
    const directory = join(root, 'sys/module', module, 'parameters');
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'nested'), `${value}\n`);
    return root;
  };
  for (const root of [says('kvm_intel', 'Y'), says('kvm_amd', '1')]) expectNesting(host, root);
  for (const root of [says('kvm_intel', 'N'), says('kvm_amd', '0'), tempDir(t)]) {
    t.throws(() => expectNesting(host, root), { kind: 'FailedPrecondition', message: /nested=1/ });
  }
  t.end();
});
