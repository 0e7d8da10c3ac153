import { renderTable } from '../../control/table.ts';
import { textAt } from '../kube/json.ts';
import { parsePod, type PodView } from '../kube/pod-view.ts';
import { parsePowerRequest } from '../power/power-request.ts';
import { parsePowerAnswer } from '../power/power-status.ts';
import { shownText } from './shown-text.ts';

/** One line per pod. @param withNamespace whether they are of several namespaces. */
export function vmTable(pods: readonly unknown[], withNamespace: boolean): string {
  const head = ['NAME', 'PHASE', 'POWER', 'REQUEST', 'NODE', 'IP'];
  const rows = pods.map((pod) => {
    const view = parsePod(pod);
    const cells = [
      view.name,
      phase(pod, view),
      power(view),
      lastRequest(view),
      textAt(pod, 'spec', 'nodeName') ?? '-',
      textAt(pod, 'status', 'podIP') ?? '-',
    ];
    return (withNamespace ? [view.namespace, ...cells] : cells).map(shownText);
  });
  return renderTable(withNamespace ? ['NAMESPACE', ...head] : head, rows);
}

/** Everything that the API server knows of a VM. */
export function vmDetails(pod: unknown): string {
  const view = parsePod(pod);
  const answer = parsePowerAnswer(view.status);
  const lines: [string, string][] = [
    ['pod', `${view.namespace}/${view.name}`],
    ['uid', view.uid],
    ['node', textAt(pod, 'spec', 'nodeName') ?? ''],
    ['phase', phase(pod, view)],
    ['ip', textAt(pod, 'status', 'podIP') ?? ''],
    ['power', [power(view), view.poweredOn?.message ?? ''].filter((text) => text !== '').join(': ')],
    ['restarts', String(view.restarts)],
    ['request', view.request ?? ''],
    [
      'answer',
      answer === undefined ? '' : [answer.phase, answer.message].filter((it) => it !== '').join(': '),
    ],
    ['answered', answer?.time ?? ''],
  ];
  const shown = lines.filter(([, value]) => value !== '');
  const width = Math.max(...shown.map(([label]) => label.length));
  return shown.map(([label, value]) => `${label.padEnd(width)}  ${shownText(value)}\n`).join('');
}

function phase(pod: unknown, view: PodView): string {
  return view.deleting ? 'Terminating' : (textAt(pod, 'status', 'phase') ?? 'Unknown');
}

function power({ poweredOn }: PodView): string {
  if (poweredOn === undefined) return 'unknown';
  switch (poweredOn.status) {
    case 'True':
      return 'on';
    case 'False':
      return poweredOn.reason === 'PoweredOff' ? 'off' : poweredOn.reason.toLowerCase();
    case 'Unknown':
      return 'unknown';
  }
}

function lastRequest({ request, status }: PodView): string {
  if (request === undefined) return '-';
  const parsed = parsePowerRequest(request);
  const answer = parsePowerAnswer(status);
  if (parsed.t === 'problem') return 'malformed';
  const { id, action } = parsed.request;
  return `${action} ${answer?.id === id ? answer.phase : 'unanswered'}`;
}
