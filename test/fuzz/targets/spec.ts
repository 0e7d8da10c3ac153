import { ANNOTATION_PREFIX, ANNOTATIONS } from '../../../src/core/annotations.ts';
import { parseConfig } from '../../../src/core/config.ts';
import { parseVmSpec } from '../../../src/core/parse-spec.ts';
import type { VmSpec } from '../../../src/core/vm-spec.ts';
import { planQemu } from '../../../src/qemu/plan.ts';
import { parseOciBundle } from '../../../src/shim/oci-bundle.ts';
import type { Random } from '../../support/chaos/random.ts';
import { baseInput } from '../../unit/qemu-plan/golden-cases.ts';
import { anyText, mutateText } from '../mutate.ts';
import { type Json, mutateJson, textOf } from '../mutate-json.ts';
import { type FuzzTarget, showText, Unsound } from '../target.ts';

const config = parseConfig('', 'fuzz');
const KEYS = Object.keys(ANNOTATIONS) as (keyof typeof ANNOTATIONS)[];

const CRI = {
  'io.kubernetes.cri.container-type': 'container',
  'io.kubernetes.cri.sandbox-id': 'sb',
  'io.kubernetes.cri.sandbox-uid': '0d7f6c1e-88a5-4b0e-9f63-0a1b2c3d4e5f',
  'io.kubernetes.cri.sandbox-name': 'web-1',
  'io.kubernetes.cri.sandbox-namespace': 'shop',
  'io.kubernetes.cri.container-name': 'vm',
};

/** What containerd writes for a pod's container. */
const SPEC = {
  ociVersion: '1.1.0',
  process: { args: ['vm'], cwd: '/', env: ['PATH=/bin', 'GREETING=good day', 'X='], oomScoreAdj: 985 },
  root: { path: 'rootfs' },
  hostname: 'web',
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid'] },
    { destination: '/etc/resolv.conf', type: 'bind', source: '/r', options: ['rbind', 'ro'] },
    {
      destination: '/vmshim/guest-data',
      type: 'bind',
      source: '/pods/x/volumes/kubernetes.io~secret/s',
      options: ['ro'],
    },
    {
      destination: '/data',
      type: 'bind',
      source: '/pods/x/volumes/kubernetes.io~csi/pvc/mount',
      options: ['rw'],
    },
    { destination: '/dev/termination-log', type: 'bind', source: '/t', options: ['rw'] },
  ],
  linux: {
    cgroupsPath: '/kubepods/pod1/c1',
    namespaces: [{ type: 'network', path: '/proc/1/ns/net' }, { type: 'pid' }],
    devices: [{ path: '/dev/vdx', type: 'b', major: 7, minor: 3, fileMode: 432 }],
    resources: {
      cpu: { shares: 2048, quota: 150_000, period: 100_000, cpus: '0-3,8', mems: '0' },
      memory: { limit: 3 * 2 ** 30 },
      hugepageLimits: [{ pageSize: '2MB', limit: 0 }],
      devices: [{ allow: true, type: 'b', major: 7, minor: 3, access: 'rwm' }],
    },
  },
};

/** Pod specs: OCI spec, annotations, and what QEMU is told of them. */
export function specTarget(): FuzzTarget {
  return {
    name: 'spec',
    about: 'the OCI spec with its annotations, as far as QEMU’s command line',
    make: (random) => {
      const annotations = { ...(random.below(2) === 0 ? CRI : {}), ...said(random) };
      const sample: Json = { ...SPEC, annotations };
      const text = textOf(random.below(2) === 0 ? sample : mutateJson(random, sample));
      const podNetwork = random.below(2) === 0;
      return {
        show: () => showText(text),
        run: () => {
          const spec: unknown = JSON.parse(text);
          parseOciBundle(spec, '/run/bundle');
          const vm = parseVmSpec({ id: 'c1', namespace: 'default', spec, config, podNetwork });
          expectSound(vm);
        },
      };
    },
  };
}

/** Annotations with their examples, as they are or a little changed, and now and then a key that is none. */
function said(random: Random): Record<string, string> {
  const entries = Array.from({ length: random.below(4) }, (): [string, string] => {
    const key = random.pick(KEYS);
    const { example } = ANNOTATIONS[key];
    const name = random.below(30) === 0 ? anyText(random) : `${ANNOTATION_PREFIX}${key}`;
    return [name, random.below(4) > 0 ? example : mutateText(random, example)];
  });
  return Object.fromEntries(entries);
}

function expectSound(spec: VmSpec): void {
  const wrong = [spec.vcpus, spec.memoryBytes].find((n) => !Number.isSafeInteger(n) || n < 1);
  if (wrong !== undefined) throw new Unsound(`a VM of ${spec.vcpus} CPUs and ${spec.memoryBytes} bytes`);
  const { args } = planQemu({
    ...baseInput,
    spec,
    accel: 'tcg',
    machineType: spec.machine === 'microvm' ? 'microvm' : 'pc-q35-7.2',
    guestDrive: spec.guestData.kind !== 'none',
    firmware: spec.firmware === 'bios' ? { kind: 'bios' } : { kind: spec.firmware, codePath: '/code.fd' },
    aio: 'threads',
  });
  const flags = args.filter((arg) => arg.startsWith('-') && !KNOWN_FLAGS.has(arg));
  // A text of the user's may begin with a dash, but then it is the value of the option before it.
  for (const flag of flags) {
    const owner = args[args.indexOf(flag) - 1];
    if (owner !== '-append')
      throw new Unsound(`the option ${JSON.stringify(flag)} behind ${owner ?? 'nothing'}`);
  }
  const nul = args.find((arg) => arg.includes('\0'));
  if (nul !== undefined) throw new Unsound(`an argument with NUL: ${JSON.stringify(nul)}`);
}

/** Those of src/qemu. */
const KNOWN_FLAGS = new Set(
  [
    ...[
      'name',
      'uuid',
      'no-user-config',
      'nodefaults',
      'display',
      'S',
      'no-shutdown',
      'no-reboot',
      'sandbox',
    ],
    ...['machine', 'accel', 'cpu', 'smp', 'object', 'm', 'numa', 'rtc', 'global', 'chardev', 'mon', 'device'],
    ...[
      'kernel',
      'initrd',
      'append',
      'add-fd',
      'blockdev',
      'netdev',
      'vnc',
      'boot',
      'smbios',
      'vga',
      'k',
      'drive',
      'watchdog-action',
    ],
  ].map((name) => `-${name}`),
);
