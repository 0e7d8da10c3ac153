/** Whose an orphan is, when several shims want it at once. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { bootId, readIdentity } from '../../../src/host/process-identity.ts';
import { orphanNow } from '../../../src/vm/leave-orphan.ts';
import { writeMarker } from '../../../src/vm/orphan-marker.ts';
import { readRecord, RECORD_FORMAT, type VmRecord, writeRecord } from '../../../src/vm/record.ts';
import { ExpectText } from '../../support/expect-text.ts';
import { tempDir } from '../../support/temp-dir.ts';
import { startSleeper } from '../host/sleeper.ts';

const host = new LinuxHost();
const OWNER = 'owner-1';

/** A shim in a process of its own. */
async function startClaimer(t: Test, stateDir: string) {
  const script = join(import.meta.dirname, '../../support/claim-process.ts');
  const child = spawn(process.execPath, [script, stateDir, OWNER], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  const end = async (): Promise<void> => {
    child.stdin.end();
    await ended;
  };
  t.teardown(end);
  const output = new ExpectText(child.stdout);
  await output.until('ready\n');
  return {
    pid: child.pid ?? 0,
    end,
    claim: async (): Promise<string> => {
      child.stdin.write('claim\n');
      return (await output.until(/ready\n(.*)\n/))[1] ?? '';
    },
  };
}

/** A guest whose shim is dead; a process that sleeps stands for its QEMU. */
function orphan(t: Test): { stateDir: string; record: () => VmRecord } {
  const stateDir = tempDir(t);
  const runDir = join(stateDir, 'vm');
  mkdirSync(runDir);
  const { pid } = startSleeper(t);
  const found = {
    ...{ format: RECORD_FORMAT, id: 'old', bootId: bootId(host), runDir, shim: undefined, exit: undefined },
    qemu: { pid, startTime: readIdentity(host, pid)?.startTime ?? 0 },
    survival: { owner: OWNER, deadlineMs: 60_000 },
    orphan: orphanNow(60_000),
  };
  writeRecord(host, found as unknown as VmRecord);
  writeMarker(host, stateDir, OWNER, runDir);
  return { stateDir, record: () => readRecord(host, join(runDir, 'record.json'))! };
}

void t.test(
  'of two shims that want a guest at once, one gets it and the other one says who has it',
  async (t) => {
    const { stateDir, record } = orphan(t);
    const shims = await Promise.all([startClaimer(t, stateDir), startClaimer(t, stateDir)]);
    const said = await Promise.all(shims.map((shim) => shim.claim()));
    const winner = shims[said.indexOf('claimed')];
    t.equal(record().shim?.pid, winner?.pid);
    t.same(
      said.toSorted(),
      [
        'claimed',
        `the VM of this pod is run by shim process ${winner?.pid ?? 0} already (container "old"); delete that one first`,
      ].toSorted(),
    );

    // While it takes the guest over, it dies.
    await winner?.end();
    const third = await startClaimer(t, stateDir);
    t.equal(await third.claim(), 'claimed', 'the guest is nobody’s again');
    t.equal(record().shim?.pid, third.pid);
  },
);
