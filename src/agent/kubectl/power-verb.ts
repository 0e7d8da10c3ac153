import { randomUUID } from 'node:crypto';
import { VmError } from '../../core/errors.ts';
import { textAt } from '../kube/json.ts';
import { parsePod } from '../kube/pod-view.ts';
import { parsePowerRequest, type PowerAction } from '../power/power-request.ts';
import { isFinal, parsePowerAnswer, type PowerAnswer } from '../power/power-status.ts';
import type { PodClient } from './pod-client.ts';

export interface PowerVerb {
  readonly action: PowerAction;
  readonly graceSeconds: number | undefined;
  readonly force: boolean;
  /** Whether to stay until it is done. */
  readonly wait: boolean;
}

/** So long an agent takes at most that is there. */
const SILENCE_MS = 10_000;

/**
 * Asks a pod's VM, and follows the answer.
 * @param say gets each sentence about its progress.
 * @returns the last answer; undefined without waiting.
 * @throws VmError NotFound when the pod is gone, Aborted when somebody else's request took this one's place.
 */
export async function askPower(
  client: PodClient,
  pod: unknown,
  verb: PowerVerb,
  say: (sentence: string) => void,
  signal: AbortSignal,
): Promise<PowerAnswer | undefined> {
  const { action, graceSeconds, force, wait } = verb;
  const id = randomUUID();
  const request = {
    id,
    action,
    ...(graceSeconds === undefined ? {} : { graceSeconds }),
    ...(force ? { force } : {}),
  };
  const asked = await client.request(pod, request, signal);
  if (!wait) return undefined;
  const node = textAt(pod, 'spec', 'nodeName') ?? 'none yet';
  const silence = setTimeout(
    () => say(`no answer yet: is a vm-node-agent running on the pod's node (${node})?`),
    SILENCE_MS,
  );
  try {
    return await follow(client, asked, id, say, () => clearTimeout(silence), signal);
  } finally {
    clearTimeout(silence);
  }
}

async function follow(
  client: PodClient,
  pod: unknown,
  id: string,
  say: (sentence: string) => void,
  heard: () => void,
  signal: AbortSignal,
): Promise<PowerAnswer> {
  let said = '';
  for await (const object of client.follow(pod, signal)) {
    const view = parsePod(object);
    const asked = view.request === undefined ? undefined : parsePowerRequest(view.request);
    if (asked?.t !== 'request' || asked.request.id !== id)
      throw new VmError('Aborted', 'another request has taken the place of this one');
    const answer = parsePowerAnswer(view.status);
    if (answer?.id !== id) continue;
    heard();
    if (isFinal(answer)) return answer;
    const sentence = answer.message === '' ? answer.phase : answer.message;
    if (sentence !== said) say(sentence);
    said = sentence;
  }
  throw new VmError('NotFound', 'the pod is gone, and its VM with it');
}
