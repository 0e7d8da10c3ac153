import { join } from 'node:path';
import { Client, type ClientReadableStream, credentials, type ServiceError } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import type { ContainerEvent, CriMethods } from './cri/messages.ts';
import { patience } from './machine-traits.ts';

/** Longer than any call of a healthy containerd takes on a slow machine; kubelet gives up after two minutes. */
const DEADLINE_MS = patience(120_000);

const root = protobuf.loadSync(join(import.meta.dirname, 'cri/runtime-v1.proto'));
const services = ['runtime.v1.RuntimeService', 'runtime.v1.ImageService'].map((name) =>
  root.lookupService(name),
);

/** What an answer is turned into: every field there, numbers as numbers (none of ours is above 2^53). */
const PLAIN: protobuf.IConversionOptions = { defaults: true, longs: Number, enums: String };

/** The Container Runtime Interface of a containerd, as kubelet calls it. */
export class CriClient implements Disposable {
  readonly #client: Client;

  /** @param socket absolute path; nothing is sent before the first call. */
  constructor(socket: string) {
    this.#client = new Client(`unix://${socket}`, credentials.createInsecure());
  }

  /** @throws ServiceError of grpc-js with containerd's status code, and its sentence in `details`. */
  async call<M extends keyof CriMethods>(method: M, request: CriMethods[M][0]): Promise<CriMethods[M][1]> {
    const { path, requestType, responseType } = lookUp(method);
    const answer = await new Promise<unknown>((resolve, reject) => {
      this.#client.makeUnaryRequest(
        path,
        (message: object) => Buffer.from(requestType.encode(requestType.fromObject(message)).finish()),
        (bytes: Buffer): unknown => responseType.toObject(responseType.decode(bytes), PLAIN),
        request,
        { deadline: Date.now() + DEADLINE_MS },
        (error: ServiceError | null, message?: unknown) => {
          if (error === null) resolve(message);
          else reject(error);
        },
      );
    });
    return answer as CriMethods[M][1];
  }

  /** What containerd 1.7 and later tells by itself. Whoever no longer listens cancels it. */
  containerEvents(): ClientReadableStream<ContainerEvent> {
    const { path, requestType, responseType } = lookUp('GetContainerEvents');
    return this.#client.makeServerStreamRequest(
      path,
      (message: object) => Buffer.from(requestType.encode(requestType.fromObject(message)).finish()),
      (bytes: Buffer) => responseType.toObject(responseType.decode(bytes), PLAIN) as ContainerEvent,
      {},
    );
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

interface Method {
  readonly path: string;
  readonly requestType: protobuf.Type;
  readonly responseType: protobuf.Type;
}

function lookUp(name: string): Method {
  for (const service of services) {
    const method = service.methods[name];
    if (method === undefined) continue;
    return {
      path: `/${service.fullName.slice(1)}/${name}`,
      requestType: service.lookupType(method.requestType),
      responseType: service.lookupType(method.responseType),
    };
  }
  throw new Error(`runtime-v1.proto has no method ${name}`);
}
