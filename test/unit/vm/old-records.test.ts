/** Records that older versions wrote are read, whatever they lack. A fixture is never changed: a new one is added. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { leaveOrphan } from '../../../src/vm/leave-orphan.ts';
import { loadNative } from '../../../src/host/native.ts';
import { readRecord, RECORD_FORMAT } from '../../../src/vm/record.ts';

const fixtures = join(import.meta.dirname, 'old-records');

void t.test('every format has a record', async (t) => {
  const host = new LinuxHost();
  const formats = new Set<number>();
  for (const name of readdirSync(fixtures)) {
    const path = join(fixtures, name);
    const record = readRecord(host, path);
    t.match(record, { id: 'c1', namespace: 'k8s.io', qemu: { pid: 4711 }, runDir: fixtures }, name);
    formats.add(record?.format ?? 0);
    const deps = { host, native: loadNative() };
    const never = (): undefined => void t.fail('of a VM that has ended');
    t.equal(await leaveOrphan(deps, path, never, AbortSignal.timeout(60_000)), undefined);
  }
  t.same(
    [...formats],
    Array.from({ length: RECORD_FORMAT }, (_, i) => i + 1),
  );
});
