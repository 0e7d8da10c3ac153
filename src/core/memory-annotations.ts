import { parseQuantity } from './quantity.ts';

/** What a pod says about its guest's RAM; a part of annotations.ts' table. */
export const MEMORY_ANNOTATIONS = {
  memory: {
    type: 'a Kubernetes quantity of bytes',
    default: 'the memory limit; without a limit `defaults.memory` of the config file (512Mi)',
    example: '2Gi',
    description: 'Guest RAM, rounded down to a multiple of 1 MiB; at least 64Mi, for `microvm` 32Mi.',
    parse: parseQuantity,
  },
  'max-memory': {
    type: 'a Kubernetes quantity of bytes, not less than the VM starts with',
    default: 'as much as the VM starts with',
    example: '8Gi',
    description:
      'How much RAM a memory limit that is raised while the VM runs may give its guest, in steps of 2 MiB. See memory.md.',
    parse: parseQuantity,
  },
} as const;
