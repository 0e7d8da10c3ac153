import { isDeepStrictEqual } from 'node:util';
import { containerd } from '#wire';
import { noExitEvidence, noteExitEvent } from '../../../src/qemu/exit-cause.ts';
import { QmpDecoder, type QmpMessage } from '../../../src/qemu/qmp-codec.ts';
import { parseVmEvent } from '../../../src/qemu/qmp-events.ts';
import { unary } from '../../../src/shim/unary-method.ts';
import { decodeRequest, decodeResponse, encodeRequestFrame } from '../../../src/ttrpc/envelope.ts';
import { type DecodedFrame, encodeFrame, FrameDecoder, FrameType } from '../../../src/ttrpc/frame.ts';
import type { CallContext } from '../../../src/ttrpc/method.ts';
import type { Random } from '../../support/chaos/random.ts';
import { mutateBytes } from '../mutate.ts';
import { type Json, mutateJson, textOf } from '../mutate-json.ts';
import { type FuzzTarget, showBytes, Unsound } from '../target.ts';

/** Streams that are cut into messages: however they were split, the same bytes are the same messages. */
export function bytesTargets(): FuzzTarget[] {
  return [ttrpcTarget(), taskTarget(), qmpTarget()];
}

/** Small, so that a length which is believed costs no time. */
const MAX_DATA = 1 << 16;

const { CreateTaskRequest, ExecProcessRequest, UpdateTaskRequest } = containerd.task;

const create = CreateTaskRequest.encode({
  id: 'c1',
  bundle: '/run/b',
  rootfs: [{ type: 'overlay', source: 'overlay', options: ['lowerdir=/a', 'upperdir=/b'] }],
  stdin: '/f/in',
  stdout: '/f/out',
  terminal: true,
  options: { typeUrl: 'runtimeoptions.v1.Options', value: Buffer.from('\x12\x03abc') },
}).finish();

const requests: readonly Buffer[] = [
  encodeRequestFrame(1, 0, {
    service: 'containerd.task.v2.Task',
    method: 'Create',
    payload: create,
    timeoutNano: 5_000_000_000n,
    metadata: new Map([['containerd-namespace-ttrpc', ['default', 'k8s.io']]]),
  }),
  encodeFrame(3, 2, 0, Buffer.from('0a0408051200', 'hex')),
  encodeFrame(5, 3, 1, Buffer.from('data')),
  encodeFrame(7, 3, 4),
];

function ttrpcTarget(): FuzzTarget {
  return {
    name: 'ttrpc',
    about: 'frames and envelopes on a shim’s socket',
    make: (random) => {
      const bytes = mutateBytes(random, Buffer.concat(random.shuffle(requests)), random.pick(requests));
      const cuts = splits(random, bytes);
      return {
        show: () => `${showBytes(bytes)} in ${cuts.length} pieces`,
        run: () => {
          const whole = decodeFrames([bytes]);
          if (!isDeepStrictEqual(decodeFrames(cuts), whole))
            throw new Unsound('depends on where it was split');
          for (const frame of whole) {
            if (frame.kind === 'oversize') continue;
            if (frame.data.length > MAX_DATA) throw new Unsound(`a frame of ${frame.data.length} bytes`);
            if (frame.type === FrameType.request) decodeRequest(frame.data);
            if (frame.type === FrameType.response) decodeResponse(frame.data);
          }
        },
      };
    },
  };
}

function decodeFrames(pieces: readonly Uint8Array[]): DecodedFrame[] {
  const decoder = new FrameDecoder({ maxDataLength: MAX_DATA });
  return pieces.flatMap((piece) => decoder.push(piece));
}

/** What a method makes of a payload; the kinds of messages that hold others. */
function taskTarget(): FuzzTarget {
  const methods = [CreateTaskRequest, ExecProcessRequest, UpdateTaskRequest].map((type) =>
    unary<object, Uint8Array>(type, { encode: (reply) => ({ finish: () => reply }) }, (request) => {
      if (typeof request !== 'object') throw new Unsound('no message');
      return new Uint8Array();
    }),
  );
  const sample = [create, UpdateTaskRequest.encode({ id: 'c1', annotations: { a: 'b' } }).finish()];
  const call = {} as CallContext;
  return {
    name: 'task',
    about: 'payloads of the task API',
    make: (random) => {
      const bytes = mutateBytes(random, random.pick(sample), random.pick(sample));
      const method = random.pick(methods);
      return {
        show: () => showBytes(bytes),
        run: () => method.handle(bytes, call),
      };
    },
  };
}

const messages: readonly Json[] = [
  {
    QMP: { version: { qemu: { micro: 22, minor: 2, major: 7 }, package: 'Debian' }, capabilities: ['oob'] },
  },
  { return: { status: 'running', running: true }, id: 1 },
  { error: { class: 'GenericError', desc: 'no' }, id: 2 },
  {
    timestamp: { seconds: 1_790_000_000, microseconds: 5 },
    event: 'SHUTDOWN',
    data: { guest: true, reason: 'guest-shutdown' },
  },
  {
    timestamp: { seconds: 1, microseconds: 5 },
    event: 'RESET',
    data: { guest: true, reason: 'guest-reset' },
  },
  {
    timestamp: { seconds: 1, microseconds: 5 },
    event: 'GUEST_PANICKED',
    data: { action: 'pause', info: { type: 'hyper-v', arg1: 1 } },
  },
  {
    timestamp: { seconds: 1, microseconds: 5 },
    event: 'BLOCK_IO_ERROR',
    data: { device: '', 'node-name': 'root', operation: 'write', action: 'stop', nospace: true, reason: 'x' },
  },
  { timestamp: { seconds: 1, microseconds: 5 }, event: 'BALLOON_CHANGE', data: { actual: 4096 } },
];

function qmpTarget(): FuzzTarget {
  return {
    name: 'qmp',
    about: 'what a QEMU that was taken over says to its shim',
    make: (random) => {
      const lines = Array.from({ length: 1 + random.below(3) }, () => {
        const message = random.pick(messages);
        return textOf(random.below(4) === 0 ? message : mutateJson(random, message));
      });
      const text = Buffer.from(`${lines.join('\r\n')}\r\n`);
      const bytes = random.below(3) === 0 ? mutateBytes(random, text) : text;
      const cuts = splits(random, bytes);
      return {
        show: () => `${showBytes(bytes)} in ${cuts.length} pieces`,
        run: () => {
          const whole = decodeQmp([bytes]);
          const shape = (found: readonly QmpMessage[]): unknown =>
            found.map((message) => (message.kind === 'invalid' ? message.error.message : message));
          if (!isDeepStrictEqual(shape(decodeQmp(cuts)), shape(whole)))
            throw new Unsound('depends on where it was split');
          let evidence = noExitEvidence;
          for (const message of whole) {
            if (message.kind === 'invalid') throw message.error;
            if (message.kind !== 'event') continue;
            const event = parseVmEvent(message);
            if (event !== undefined) evidence = noteExitEvent(evidence, event);
          }
        },
      };
    },
  };
}

function decodeQmp(pieces: readonly Buffer[]): QmpMessage[] {
  const decoder = new QmpDecoder(1 << 20);
  return pieces.flatMap((piece) => decoder.push(piece));
}

function splits(random: Random, bytes: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  const most = random.pick([1, 3, 16, 100_000]);
  for (let at = 0; at < bytes.length;) {
    const length = 1 + random.below(most);
    // Of its own memory, as a socket gives it.
    pieces.push(Buffer.from(bytes.subarray(at, at + length)));
    at += length;
  }
  return pieces;
}
