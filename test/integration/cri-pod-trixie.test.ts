/** The same pods on the containerd of Debian 13, which is a 1.7. */
import t from 'tap';
import { newerPodCases, podCases, runPodCases } from '../support/pod-cases.ts';

void t.test('pods of runtime class vm on containerd 1.7', (t) =>
  runPodCases(t, { ...podCases, ...newerPodCases }, { source: 'trixie' }),
);
