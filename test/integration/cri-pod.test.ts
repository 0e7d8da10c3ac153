/**
 * Pods as kubelet runs them: this machine's containerd with its CRI plugin, the distribution's CNI plugins, and our runtime
 * as handler `vm`.
 */
import t from 'tap';
import { podCases, runPodCases } from '../support/pod-cases.ts';

void t.test('pods of runtime class vm', (t) => runPodCases(t, podCases));
