import { runtime } from '#wire-sandbox';
import { VmError } from '../core/errors.ts';
import type { AnyMessage } from '../core/protobuf-fields.ts';
import type { PodDns, PodIdentity, PodPort, PodResources } from './pod-identity.ts';

const wire = runtime.v1;
const POD = 'runtime.v1.PodSandboxConfig';

/**
 * The pod that CRI describes in CreateSandboxRequest.options; undefined where there are none, as other clients than CRI
 * have it. Source: k8s.io/cri-api pkg/apis/runtime/v1/api.proto.
 * @throws VmError InvalidArgument naming the field.
 */
export function parsePod(options: AnyMessage | undefined): PodIdentity | undefined {
  if (options === undefined || options.typeUrl === '') return undefined;
  if (options.typeUrl.split('/').at(-1) !== POD) {
    throw new VmError(
      'InvalidArgument',
      `options of CreateSandbox are a "${options.typeUrl}"; they must be ${POD}, which CRI sends, or be left out`,
    );
  }
  const { metadata, hostname, dnsConfig, portMappings, annotations, linux } = decode(options.value);
  return {
    name: metadata?.name ?? '',
    namespace: metadata?.namespace ?? '',
    uid: metadata?.uid ?? '',
    hostname,
    dns: parseDns(dnsConfig),
    portMappings: portMappings.map(parsePort),
    annotations,
    cgroupParent: linux?.cgroupParent ?? '',
    overhead: parseResources(linux?.overhead),
    resources: parseResources(linux?.resources),
  };
}

function decode(value: Uint8Array): runtime.v1.PodSandboxConfig {
  try {
    return wire.PodSandboxConfig.decode(value);
  } catch (cause) {
    throw new VmError('InvalidArgument', `options of CreateSandbox are no ${POD} although they say so`, {
      cause,
    });
  }
}

function parseDns(dns: runtime.v1.DNSConfig.$Properties | null | undefined): PodDns {
  return { servers: dns?.servers ?? [], searches: dns?.searches ?? [], options: dns?.options ?? [] };
}

const PROTOCOLS: Readonly<Record<number, PodPort['protocol']>> = {
  [wire.Protocol.TCP]: 'TCP',
  [wire.Protocol.UDP]: 'UDP',
  [wire.Protocol.SCTP]: 'SCTP',
};

function parsePort(port: runtime.v1.PortMapping.$Properties): PodPort {
  const protocol = PROTOCOLS[port.protocol ?? wire.Protocol.TCP];
  if (protocol === undefined) {
    throw new VmError(
      'InvalidArgument',
      `the pod’s port mapping to ${port.containerPort ?? 0} has the protocol ${port.protocol ?? 0}; CRI knows TCP, UDP and SCTP`,
    );
  }
  return {
    protocol,
    containerPort: port.containerPort ?? 0,
    hostPort: port.hostPort ?? 0,
    hostIp: port.hostIp ?? '',
  };
}

function parseResources(
  resources: runtime.v1.LinuxContainerResources.$Properties | null | undefined,
): PodResources {
  return {
    cpuPeriod: resources?.cpuPeriod ?? 0,
    cpuQuota: resources?.cpuQuota ?? 0,
    cpuShares: resources?.cpuShares ?? 0,
    memoryBytes: resources?.memoryLimitInBytes ?? 0,
  };
}
