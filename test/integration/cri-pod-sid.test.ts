/**
 * The same pods on the containerd of Debian sid, a 2.x: with what the shim answers by default, and with the answer that makes
 * containerd ask the sandbox's shim for everything of the pod.
 */
import t from 'tap';
import { connectionCases, newerPodCases, podCases, runPodCases } from '../support/pod-cases.ts';

void t.test('pods of runtime class vm on containerd 2', (t) =>
  runPodCases(t, { ...podCases, ...newerPodCases }, { source: 'sid' }),
);

void t.test('pods of runtime class vm on containerd 2 with bootstrap version 3', (t) =>
  runPodCases(t, connectionCases, { source: 'sid', shimConfig: 'bootstrap_version = 3' }),
);
