import type { KubeServer, Pod } from '../kube-server.ts';
import type { KeptPod } from './kept-pod.ts';
import type { Power, PowerVerb } from './power-model.ts';
import { type Answer, isOver, parseAnswer } from './request-ledger.ts';

const REQUEST = 'vmshim.io/power-request';
const STATUS = 'vmshim.io/power-status';
/** Reasons of the condition `vmshim.io/PoweredOn`; docs/agent.md. */
const REASON: Readonly<Record<Power, string>> = { on: 'PoweredOn', off: 'PoweredOff', paused: 'Paused' };

/** A pod as the API server has it, and what operators ask of its VM through its annotation. */
export class Orders {
  readonly #kube: KubeServer;
  readonly #name: string;
  readonly #uid: string;
  #last = 0;

  constructor(kube: KubeServer, { name, uid }: KeptPod) {
    this.#kube = kube;
    this.#name = name;
    this.#uid = uid;
    kube.addPod({ name, uid });
  }

  /** @returns the request's id, which another pod of this name may have had as well. */
  give(action: PowerVerb, options: object): string {
    const id = String(++this.#last);
    this.#kube.annotate(this.#name, REQUEST, JSON.stringify({ id, action, ...options }));
    return id;
  }

  /** How a request ended; `lost` when another one took its place, or its pod went before it was told. */
  answer(id: string): Answer | undefined {
    const pod = this.#pod();
    const answer = parseAnswer(pod?.metadata.annotations[STATUS]);
    if (answer?.id === id && isOver(answer)) return answer;
    return pod === undefined || id !== String(this.#last) ? { id, phase: 'lost', message: '' } : undefined;
  }

  conditionIs(power: Power): boolean {
    const { status, reason } = this.#condition();
    return reason === REASON[power] && status === (power === 'on' ? 'True' : 'False');
  }

  /** The pod is to be deleted, and is there still. */
  deleting(): void {
    this.#kube.change(this.#name, (pod) => (pod.metadata['deletionTimestamp'] = '2026-01-01T00:00:00Z'));
  }

  deleted(): void {
    this.#kube.deletePod(this.#name);
  }

  describe(): string {
    const annotations = this.#pod()?.metadata.annotations ?? {};
    return JSON.stringify({ ...annotations, ...this.#condition() });
  }

  #pod(): Pod | undefined {
    const pod = this.#kube.pods.get(`default/${this.#name}`);
    return pod?.metadata.uid === this.#uid ? pod : undefined;
  }

  #condition(): { status?: unknown; reason?: unknown } {
    return this.#pod()?.status.conditions.find(({ type }) => type === 'vmshim.io/PoweredOn') ?? {};
  }
}
