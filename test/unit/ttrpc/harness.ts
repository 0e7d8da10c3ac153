import { mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { TtrpcClient } from '../../../src/ttrpc/client.ts';
import { decodeResponse, encodeRequestFrame, type Request } from '../../../src/ttrpc/envelope.ts';
import { type Frame, FrameDecoder } from '../../../src/ttrpc/frame.ts';
import type { Limits } from '../../../src/ttrpc/limits.ts';
import type { TtrpcServer } from '../../../src/ttrpc/server.ts';

export const utf8 = (text: string): Uint8Array => Buffer.from(text);
export const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

/** A listening Unix socket in a directory of its own; both are gone after the test, and so is every connection. */
export async function listen(t: Test, onConnection: (socket: Socket) => void): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'ttrpc-'));
  const path = join(dir, 's');
  const sockets = new Set<Socket>();
  const listener: Server = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    onConnection(socket);
  });
  await new Promise<void>((resolve) => listener.listen(path, resolve));
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => listener.close(resolve));
    rmSync(dir, { recursive: true });
  });
  return path;
}

export function serve(t: Test, server: TtrpcServer): Promise<string> {
  return listen(t, (socket) => server.handleConnection(socket));
}

export async function connect(t: Test, path: string, limits: Partial<Limits> = {}): Promise<TtrpcClient> {
  const client = await TtrpcClient.connect(path, limits);
  t.teardown(() => client[Symbol.asyncDispose]());
  return client;
}

/** A peer that writes what it likes and sees every frame. */
export class RawPeer {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  readonly #frames: Frame[] = [];
  readonly #waiting: ((frame: Frame) => void)[] = [];

  constructor(socket: Socket) {
    this.socket = socket;
    const decoder = new FrameDecoder();
    socket.on('data', (chunk: Buffer) => {
      for (const frame of decoder.push(chunk)) {
        if (frame.kind !== 'frame') throw new Error('an oversize frame came in');
        const waiting = this.#waiting.shift();
        if (waiting === undefined) this.#frames.push(frame);
        else waiting(frame);
      }
    });
    socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
  }

  /** Frames that have arrived and were not asked for. */
  get unread(): number {
    return this.#frames.length;
  }

  request(streamId: number, request: Partial<Request>, flags = 0): void {
    const metadata = new Map<string, readonly string[]>();
    const defaults = { service: 's', method: 'echo', payload: utf8(''), timeoutNano: 0n, metadata };
    this.socket.write(encodeRequestFrame(streamId, flags, { ...defaults, ...request }));
  }

  frame(): Promise<Frame> {
    const frame = this.#frames.shift();
    if (frame !== undefined) return Promise.resolve(frame);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The next frame, which must be a Response, in a form that compares well. */
  async response(): Promise<{ streamId: number; code: number; payload: string; message: string }> {
    const frame = await this.frame();
    if (frame.type !== 2) throw new Error(`a frame of type ${frame.type} came instead of a response`);
    const { status, payload } = decodeResponse(frame.data);
    const { code, message } = status ?? { code: 0, message: '' };
    return { streamId: frame.streamId, code, payload: text(payload), message };
  }
}

export async function rawConnect(t: Test, path: string): Promise<RawPeer> {
  const socket = createConnection(path);
  t.teardown(() => socket.destroy());
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  return new RawPeer(socket);
}
