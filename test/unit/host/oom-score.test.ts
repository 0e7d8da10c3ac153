import { readFileSync } from 'node:fs';
import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { setOomScore } from '../../../src/host/oom-score.ts';
import { startSleeper } from './sleeper.ts';

const host = new LinuxHost();
const score = (pid: number): string => readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8').trim();

void t.test('a process gets the score of the spec, and none keeps what an ordinary one has', (t) => {
  const { pid } = startSleeper(t);
  setOomScore(host, pid, 300);
  t.equal(score(pid), '300');
  setOomScore(host, pid, undefined);
  t.equal(score(pid), '300', 'not made more precious');
  t.end();
});

void t.test('one that descends from a protected process is an ordinary one', (t) => {
  const written: string[] = [];
  const protectedOne = Object.create(host, {
    readText: { value: () => '-998\n' },
    writeText: { value: (path: string, text: string) => void written.push(`${path} ${text}`) },
  }) as LinuxHost;
  setOomScore(protectedOne, 7, undefined);
  t.same(written, ['/proc/7/oom_score_adj 0']);
  t.end();
});

void t.test('what the kernel refuses names the field', (t) => {
  t.throws(() => setOomScore(host, 0x7fffffff, 5), {
    name: 'VmError',
    message: /^process\.oomScoreAdj of the container's spec is 5 and cannot be set: /,
  });
  t.end();
});
