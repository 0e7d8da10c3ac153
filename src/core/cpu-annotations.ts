import { isVcpus, MAX_VCPUS, parseCpuPinning, parseNumaChoice, parseSwitch } from './parse-choices.ts';

/** What a pod says about the places and the kind of its vCPUs; a part of annotations.ts' table. */
export const CPU_ANNOTATIONS = {
  'max-cpus': {
    type: `a whole number from 1 to ${MAX_VCPUS}, not less than the VM starts with`,
    default: 'as many as the VM starts with',
    example: '8',
    description:
      'How many virtual CPUs a CPU limit that is raised while the VM runs may give it. Its memory node counts them from the start.',
    parse: (value: string) => (/^\d{1,3}$/.test(value) && isVcpus(Number(value)) ? Number(value) : undefined),
  },
  'nested-virtualization': {
    type: 'on or off',
    default: 'off',
    example: 'on',
    description:
      'Whether the guest can be a hypervisor itself under KVM, on a node whose KVM lets guests (`nested=1`).',
    parse: parseSwitch,
  },
  numa: {
    type: 'auto, none, spread, the number of a node, or near: and the name of a network interface of the host',
    default: '`numa.placement` of the config file (auto)',
    example: 'near:ens1f0',
    description:
      'Memory node of the host that the VM runs on: chosen; any, unbound; several, which the guest sees as NUMA nodes; this one; or the one next to that device.',
    parse: parseNumaChoice,
  },
  'cpu-pinning': {
    type: 'shared or dedicated',
    default: 'shared',
    example: 'dedicated',
    description:
      'Whether the VM shares the CPUs of its node with others, or each of its vCPUs has a CPU alone, on cores that no other VM uses.',
    parse: parseCpuPinning,
  },
} as const;
