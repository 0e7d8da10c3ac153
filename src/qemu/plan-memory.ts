import { VmError } from '../core/errors.ts';
import { MIB } from '../core/quantity.ts';
import type { VmSpec } from '../core/vm-spec.ts';
import type { JsonObject } from './qmp-codec.ts';
import type { QemuOption } from './option.ts';
import type { GuestNode, HostMemory } from '../core/guest-ram.ts';
import { GROWTH, growthRoom, planGrowth } from './plan-growth.ts';
import type { QemuInput } from './qemu-input.ts';

/** The key of -machine that names the RAM; a guest with NUMA nodes has one backend per node instead. */
export function boardMemory({ ram }: QemuInput): Record<string, string> {
  return ram.kind === 'whole' ? { 'memory-backend': 'ram' } : {};
}

/** CPU topology, RAM and the NUMA nodes that the guest sees. */
export function planMemory(input: QemuInput): QemuOption[] {
  const { spec, ram } = input;
  const base = memoryMib(input);
  const room = growthRoom(spec, ram);
  const size: QemuOption = {
    flag: '-m',
    keys: { size: `${base}M`, ...(room > 0 && { maxmem: `${base + room / MIB}M` }) },
  };
  switch (ram.kind) {
    case 'whole':
      return [
        cpus(spec, 1),
        backend(input, 'ram', spec.memoryBytes, ram.host),
        size,
        ...(room > 0 ? [backend(input, GROWTH, room, ram.host), planGrowth()] : []),
      ];
    case 'nodes':
      return [
        cpus(spec, socketCount(ram.nodes)),
        ...ram.nodes.map(({ memoryBytes, host }, i) => backend(input, `ram${i}`, memoryBytes, host)),
        size,
        ...guestNodes(ram.nodes),
        ...distances(ram.distances),
      ];
  }
}

/**
 * One socket: guests licensed or limited by sockets (Windows desktop: two) see all their CPUs. Nodes are sockets of
 * their own, since CPUs of one socket share a cache, and a guest's scheduler distrusts a cache on two nodes.
 */
function cpus({ vcpus, maxVcpus }: Pick<VmSpec, 'vcpus' | 'maxVcpus'>, sockets: number): QemuOption {
  return {
    flag: '-smp',
    keys: { cpus: vcpus, sockets, cores: maxVcpus / sockets, threads: 1, maxcpus: maxVcpus },
  };
}

/** Sockets are equally large: nodes that are not have one per vCPU. */
function socketCount(nodes: readonly GuestNode[]): number {
  const even = nodes.every(({ vcpus }) => vcpus === nodes[0]?.vcpus);
  return even ? nodes.length : nodes.reduce((sum, { vcpus }) => sum + vcpus, 0);
}

/** memfd with share=on is what vhost-user, virtiofs and a hand-over to another QEMU map as well. */
function backend({ spec }: QemuInput, id: string, bytes: number, host: HostMemory | undefined): QemuOption {
  const { hugepageBytes } = spec;
  const json: JsonObject = {
    'qom-type': 'memory-backend-memfd',
    id,
    size: bytes,
    share: true,
    ...(host !== undefined && { 'host-nodes': [host.node], policy: host.policy }),
    // Pages that are not there must fail the start; found missing later, they kill the guest by SIGBUS.
    ...(hugepageBytes !== undefined && { hugetlb: true, hugetlbsize: hugepageBytes, prealloc: true }),
  };
  return { flag: '-object', json };
}

/** vCPUs in the order of the nodes, as they are pinned. */
function guestNodes(nodes: readonly GuestNode[]): QemuOption[] {
  let first = 0;
  return nodes.map(({ vcpus }, i) => {
    const last = first + vcpus - 1;
    const range = first === last ? String(first) : `${first}-${last}`;
    first += vcpus;
    return { flag: '-numa', head: 'node', keys: { nodeid: i, cpus: range, memdev: `ram${i}` } };
  });
}

function distances(rows: readonly (readonly number[])[]): QemuOption[] {
  return rows.flatMap((row, src) =>
    row.flatMap((val, dst): QemuOption[] =>
      src === dst ? [] : [{ flag: '-numa', head: 'dist', keys: { src, dst, val } }],
    ),
  );
}

/** QEMU rounds odd sizes up, and then RAM and backend differ; so the caller must have rounded. */
function memoryMib(input: QemuInput): number {
  const mib = input.spec.memoryBytes / MIB;
  if (!Number.isSafeInteger(mib) || mib < 1) {
    throw new VmError(
      'InvalidArgument',
      `guest memory of ${input.spec.memoryBytes} bytes is not a multiple of 1 MiB; round the memory limit`,
    );
  }
  return mib;
}
