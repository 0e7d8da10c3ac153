import { containerd, google } from '#wire-services';

/** A method of containerd's gRPC services and the messages that it takes and gives. */
export interface ContainerdMethod<Request, Response> {
  /** As HTTP/2 has it: `/SERVICE/METHOD`. */
  readonly path: string;
  readonly encode: (request: Request) => Uint8Array;
  readonly decode: (bytes: Buffer) => Response;
}

interface RequestCodec<Request> {
  encode(message: Request): { finish(): Uint8Array };
}

interface ResponseCodec<Response> {
  decode(bytes: Uint8Array): Response;
}

function method<Request, Response>(
  path: string,
  request: RequestCodec<Request>,
  response: ResponseCodec<Response>,
): ContainerdMethod<Request, Response> {
  return {
    path: `/containerd.services.${path}`,
    encode: (message) => request.encode(message).finish(),
    decode: (bytes) => response.decode(bytes),
  };
}

const { containers, content, images, leases, namespaces } = containerd.services;
const { Empty } = google.protobuf;

export const CONTAINERS = {
  list: method(
    'containers.v1.Containers/ListStream',
    containers.v1.ListContainersRequest,
    containers.v1.ListContainerMessage,
  ),
} as const;

export const CONTENT = {
  info: method('content.v1.Content/Info', content.v1.InfoRequest, content.v1.InfoResponse),
  update: method('content.v1.Content/Update', content.v1.UpdateRequest, content.v1.UpdateResponse),
  read: method('content.v1.Content/Read', content.v1.ReadContentRequest, content.v1.ReadContentResponse),
  write: method('content.v1.Content/Write', content.v1.WriteContentRequest, content.v1.WriteContentResponse),
  abort: method('content.v1.Content/Abort', content.v1.AbortRequest, Empty),
} as const;

export const IMAGES = {
  get: method('images.v1.Images/Get', images.v1.GetImageRequest, images.v1.GetImageResponse),
  list: method('images.v1.Images/List', images.v1.ListImagesRequest, images.v1.ListImagesResponse),
  create: method('images.v1.Images/Create', images.v1.CreateImageRequest, images.v1.CreateImageResponse),
  update: method('images.v1.Images/Update', images.v1.UpdateImageRequest, images.v1.UpdateImageResponse),
} as const;

export const LEASES = {
  create: method('leases.v1.Leases/Create', leases.v1.CreateRequest, leases.v1.CreateResponse),
  delete: method('leases.v1.Leases/Delete', leases.v1.DeleteRequest, Empty),
} as const;

export const NAMESPACES = {
  list: method(
    'namespaces.v1.Namespaces/List',
    namespaces.v1.ListNamespacesRequest,
    namespaces.v1.ListNamespacesResponse,
  ),
} as const;
