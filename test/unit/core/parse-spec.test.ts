import fc from 'fast-check';
import t from 'tap';
import { parseConfig } from '../../../src/core/config.ts';
import { VmError } from '../../../src/core/errors.ts';
import { parseVmSpec } from '../../../src/core/parse-spec.ts';
import type { VmSpec } from '../../../src/core/vm-spec.ts';

const config = parseConfig('', 'test');
const GiB = 2 ** 30;

function read(spec: unknown, toml = ''): VmSpec {
  return parseVmSpec({ id: 'c1', namespace: 'default', spec, config: parseConfig(toml, 'test') });
}

function complaint(spec: unknown): string {
  try {
    parseVmSpec({ id: 'c1', namespace: 'default', spec, config });
  } catch (error) {
    if (VmError.is(error, 'InvalidArgument')) return error.message;
    throw error;
  }
  return 'no complaint';
}

const annotated = (annotations: Record<string, unknown>): unknown => ({
  annotations: Object.fromEntries(
    Object.entries(annotations).map(([key, value]) => [`vmshim.io/${key}`, value]),
  ),
});

const podAnnotations = {
  'io.kubernetes.cri.container-type': 'container',
  'io.kubernetes.cri.sandbox-id': 'sb',
  'io.kubernetes.cri.sandbox-uid': '0d7f6c1e-88a5-4b0e-9f63-0a1b2c3d4e5f',
  'io.kubernetes.cri.sandbox-name': 'web-1',
  'io.kubernetes.cri.sandbox-namespace': 'shop',
  'io.kubernetes.cri.container-name': 'vm',
};

const full = {
  ociVersion: '1.1.0',
  process: { args: [], cwd: '/', oomScoreAdj: 985 },
  hostname: 'web',
  annotations: { ...podAnnotations, 'vmshim.io/port-forwards': 'tcp::8022:22', 'vmshim.io/root-size': '10G' },
  linux: {
    cgroupsPath: '/kubepods/pod1/c1',
    resources: {
      cpu: { shares: 2048, quota: 150_000, period: 100_000, cpus: '0-3,8', mems: '0' },
      memory: { limit: 3 * GiB + 5000 },
    },
  },
};

void t.test('a bare container: defaults', (t) => {
  for (const spec of [{}, undefined, null, { linux: null, annotations: null }, { process: { args: [] } }]) {
    t.same(read(spec), {
      id: 'c1',
      namespace: 'default',
      name: 'c1',
      uuid: read({}).uuid,
      owner: { kind: 'container' },
      vcpus: 1,
      maxVcpus: 1,
      vcpusFollowLimit: true,
      memoryBytes: 512 << 20,
      maxMemoryBytes: 512 << 20,
      memoryFollowsLimit: true,
      memoryLimitBytes: undefined,
      cpuModel: 'default',
      nested: false,
      accel: 'auto',
      machine: 'q35',
      firmware: 'bios',
      hardware: {
        hyperv: false,
        clock: 'utc',
        video: 'none',
        diskBus: 'virtio',
        nicModel: 'virtio',
        onIoError: 'stop',
        watchdog: undefined,
      },
      power: { onPoweroff: 'exit', onReboot: 'restart', onCrash: 'exit' },
      boot: { kind: 'disk' },
      network: { mode: 'user', mac: (read({}).network as { mac: string }).mac, forwards: [] },
      rootPlace: { kind: 'own' },
      numa: { kind: 'auto' },
      cpuPinning: 'shared',
      hugepageBytes: undefined,
      rootDiskBytes: undefined,
      onShimDeath: 'kill',
      disks: [],
      shared: [],
      guestData: {
        kind: 'config-drive',
        hostname: 'c1',
        availabilityZone: 'nova',
        projectId: 'default',
        userData: undefined,
        vendorData: undefined,
        meta: {},
        sshKeys: [],
        env: [],
        network: 'static',
        volumes: [],
      },
      oomScoreAdj: undefined,
      cgroupsPath: undefined,
      resources: {
        cpuShares: undefined,
        cpuQuota: undefined,
        cpuPeriod: undefined,
        cpusetCpus: undefined,
        cpusetMems: undefined,
      },
    });
  }
  t.end();
});

void t.test('a pod’s container: limits', (t) => {
  const spec = read(full);
  t.match(spec, {
    name: 'web-1',
    owner: {
      kind: 'pod',
      uid: '0d7f6c1e-88a5-4b0e-9f63-0a1b2c3d4e5f',
      name: 'web-1',
      namespace: 'shop',
      container: 'vm',
      sandboxId: 'sb',
    },
    vcpus: 2,
    memoryBytes: 3 * GiB,
    rootDiskBytes: 9537 * 2 ** 20,
    onShimDeath: 'survive',
    disks: [],
    shared: [],
    oomScoreAdj: 985,
    cgroupsPath: '/kubepods/pod1/c1',
    resources: {
      cpuShares: 2048,
      cpuQuota: 150_000,
      cpuPeriod: 100_000,
      cpusetCpus: '0-3,8',
      cpusetMems: '0',
    },
  });
  t.end();
});

void t.test('no limit in all its spellings', (t) => {
  const resources = (cpu: object, memory: object): VmSpec => read({ linux: { resources: { cpu, memory } } });
  for (const spec of [
    resources({ quota: -1, period: 0, shares: 0, cpus: '', mems: '' }, { limit: -1 }),
    resources({ quota: 0, period: 100_000 }, { limit: 0 }),
    resources({}, { limit: 9223372036854771712 }),
  ]) {
    t.equal(spec.vcpus, 1);
    t.equal(spec.memoryBytes, 512 << 20);
    t.equal(spec.resources.cpuQuota, undefined);
  }
  t.equal(resources({ quota: 250_000 }, {}).vcpus, 3, 'the kernel’s period is 100 ms');
  t.equal(resources({ quota: 1000, period: 100_000 }, {}).vcpus, 1);
  t.end();
});

void t.test('an annotation wins over a limit, a limit over a default', (t) => {
  const toml = '[defaults]\ncpus = 4\nmemory = "1Gi"\nnetwork = "none"\nfirmware = "uefi"';
  t.match(read({}, toml), { vcpus: 4, memoryBytes: GiB, network: { mode: 'none' }, firmware: 'uefi' });
  t.match(read({ linux: full.linux }, toml), { vcpus: 2, memoryBytes: 3 * GiB });
  const said = annotated({
    cpus: '6',
    memory: '2Gi',
    network: 'user',
    mac: '02:00:00:00:00:01',
    machine: 'microvm',
  });
  t.match(read({ ...full, ...(said as object) }, toml), {
    vcpus: 6,
    memoryBytes: 2 * GiB,
    network: { mode: 'user', mac: '02:00:00:00:00:01' },
    machine: 'microvm',
    firmware: 'bios',
  });
  t.end();
});

void t.test('a kernel boot', (t) => {
  t.same(read(annotated({ kernel: '/k', initrd: '/i', cmdline: 'quiet' })).boot, {
    kind: 'kernel',
    kernel: '/k',
    initrd: '/i',
    cmdline: 'quiet',
    disk: 'optional',
  });
  t.same(read(annotated({ kernel: '/k' })).boot, {
    kind: 'kernel',
    kernel: '/k',
    initrd: undefined,
    cmdline: '',
    disk: 'required',
  });
  t.end();
});

void t.test('uuid and MAC stay as long as the pod, and differ between pods', (t) => {
  const of = (id: string, namespace: string, annotations: object): VmSpec =>
    parseVmSpec({ id, namespace, spec: { annotations }, config });
  const first = of('c1', 'k8s.io', podAnnotations);
  const again = of('c2', 'k8s.io', podAnnotations);
  const other = of('c1', 'k8s.io', { ...podAnnotations, 'io.kubernetes.cri.sandbox-uid': 'x' });
  const second = of('c3', 'k8s.io', { ...podAnnotations, 'io.kubernetes.cri.container-name': 'vm2' });
  t.equal(first.uuid, again.uuid);
  t.same(first.network, again.network);
  t.equal(new Set([first, other, second, of('c1', 'a', {}), of('c1', 'b', {})].map((s) => s.uuid)).size, 5);
  for (const spec of [first, other]) {
    t.match(spec.uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    t.match((spec.network as { mac: string }).mac, /^52(:[0-9a-f]{2}){5}$/);
  }
  t.equal(
    of('c1', 'default', {}).uuid,
    '6ddd9de2-6941-5ead-8977-9ccde30405d6',
    'VMs that exist keep their uuid',
  );
  t.end();
});

void t.test('owners', (t) => {
  const without = (key: string): object => ({ ...podAnnotations, [`io.kubernetes.cri.${key}`]: undefined });
  t.match(read({ annotations: without('sandbox-uid') }).owner, { kind: 'pod', uid: 'sb' });
  t.match(read({ annotations: without('sandbox-name') }), { name: 'c1' });
  t.match(read({ annotations: { ...podAnnotations, 'io.kubernetes.cri.sandbox-name': 'a,b' } }), {
    name: 'c1',
  });
  t.match(
    complaint({ annotations: without('sandbox-id') }),
    /sandbox-id of the container's spec is missing; it must be the id of the pod/,
  );
  t.match(complaint({ annotations: without('container-name') }), /container-name/);
  t.match(
    complaint({ annotations: { 'io.kubernetes.cri.container-type': 'x' } }),
    /must be "container" or "sandbox", but is "x"/,
  );
  t.match(
    read({ annotations: { ...without('container-name'), 'io.kubernetes.cri.container-type': 'sandbox' } })
      .owner,
    {
      kind: 'pod',
      container: '',
    },
  );
  t.end();
});

void t.test('complaints', (t) => {
  const cases: [unknown, string][] = [
    ['x', 'config.json of the container\'s spec must be an object, but is "x"'],
    [[], 'must be an object, but is a list'],
    [{ annotations: [] }, 'config.json.annotations'],
    [{ linux: 5 }, "config.json.linux of the container's spec must be an object, but is 5"],
    [
      { linux: { resources: { memory: { limit: '1Gi' } } } },
      'memory.limit of the container\'s spec must be a whole number from -1 to 9223372036854776000, but is "1Gi"',
    ],
    [{ linux: { resources: { memory: { limit: Number.NaN } } } }, 'but is NaN'],
    [{ linux: { resources: { memory: { limit: -2 } } } }, 'but is -2'],
    [
      { linux: { resources: { memory: { limit: 1 << 20 } } } },
      'the memory limit is 1Mi; a q35 VM needs at least 64Mi: raise it',
    ],
    [{ linux: { resources: { cpu: { quota: 1.5 } } } }, 'cpu.quota'],
    [{ linux: { resources: { cpu: { shares: -1 } } } }, 'cpu.shares'],
    [
      { linux: { resources: { cpu: { quota: 1e9, period: 1000 } } } },
      'the CPU limit asks for 1000000 vCPUs; a VM has at most 255',
    ],
    [
      { linux: { resources: { cpu: { cpus: 'all' } } } },
      'cpu.cpus of the container\'s spec must be a list of numbers and ranges such as "0-3,8", but is "all"',
    ],
    [
      { process: { oomScoreAdj: 1001 } },
      "process.oomScoreAdj of the container's spec must be a whole number from -1000 to 1000, but is 1001",
    ],
    [
      { linux: { cgroupsPath: '/a/../b' } },
      'cgroupsPath of the container\'s spec must be a path without ".."',
    ],
    [annotated({ memory: '16Mi' }), 'annotation vmshim.io/memory is 16Mi; a q35 VM needs at least 64Mi'],
    [annotated({ memory: '16Mi', machine: 'microvm' }), 'a microvm VM needs at least 32Mi'],
    [annotated({ machine: 'microvm', firmware: 'uefi' }), 'which a microvm cannot boot'],
    [annotated({ initrd: '/i' }), 'annotation vmshim.io/initrd is "/i" but there is no kernel'],
    [annotated({ cmdline: 'x' }), 'set vmshim.io/kernel as well'],
    [
      annotated({ network: 'none', 'port-forwards': 'tcp::1:1' }),
      'the VM has no network: set vmshim.io/network to "user"',
    ],
  ];
  for (const [spec, text] of cases) t.ok(complaint(spec).includes(text), complaint(spec));
  t.equal(read(annotated({ memory: '32Mi', machine: 'microvm' })).memoryBytes, 32 << 20);
  t.end();
});

void t.test('however a spec is mutated: a sound VmSpec or InvalidArgument', (t) => {
  const junk = fc.oneof(
    fc.anything({ withBigInt: true, withNullPrototype: true }),
    fc.constantFrom(
      null,
      undefined,
      -1,
      0,
      2 ** 53,
      1e300,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      '',
      '5',
      [],
      {},
      true,
    ),
  );
  const paths: string[][] = [];
  const walk = (node: unknown, path: string[]): void => {
    paths.push(path);
    if (typeof node !== 'object' || node === null) return;
    for (const [key, value] of Object.entries(node)) walk(value, [...path, key]);
  };
  walk(full, []);
  const put = (node: unknown, path: readonly string[], value: unknown): unknown => {
    const [key, ...rest] = path;
    if (key === undefined) return value;
    if (typeof node !== 'object' || node === null) return node;
    return { ...node, [key]: put((node as Record<string, unknown>)[key], rest, value) };
  };
  const mutation = fc.tuple(fc.constantFrom(...paths), junk);
  let sound = 0;
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), (mutations) => {
      const spec = mutations.reduce<unknown>((node, [path, value]) => put(node, path, value), full);
      if (complaint(spec) !== 'no complaint') return true;
      const vm = read(spec);
      sound++;
      return (
        Number.isInteger(vm.vcpus) &&
        vm.vcpus >= 1 &&
        vm.vcpus <= 255 &&
        Number.isSafeInteger(vm.memoryBytes) &&
        vm.memoryBytes % 2 ** 20 === 0 &&
        vm.memoryBytes >= 64 << 20 &&
        typeof vm.name === 'string' &&
        vm.name !== '' &&
        Object.values(vm.resources).every(
          (v) => v === undefined || typeof v === 'string' || (Number.isSafeInteger(v) && v > 0),
        )
      );
    }),
    { numRuns: 3000 },
  );
  t.ok(sound > 50, `${sound} of the mutated specs were sound`);
  t.end();
});

void t.test('a place among memory nodes', (t) => {
  t.same(read({}, 'numa.placement = "none"').numa, { kind: 'none' });
  t.same(read(annotated({ numa: '1' }), 'numa.placement = "none"').numa, { kind: 'node', node: 1 });
  t.equal(read(annotated({ 'cpu-pinning': 'dedicated' })).cpuPinning, 'dedicated');
  t.end();
});

void t.test('huge pages are the RAM, the memory limit is then for QEMU', (t) => {
  const spec = (limits: object[], annotations: Record<string, string> = {}): object => ({
    ...(annotated(annotations) as object),
    linux: { resources: { memory: { limit: 200 << 20 }, hugepageLimits: limits } },
  });
  const none = { pageSize: '1GB', limit: 0 };
  const two = { pageSize: '2MB', limit: 512 << 20 };
  t.match(read(spec([none, two])), { hugepageBytes: 2 << 20, memoryBytes: 512 << 20 });
  t.match(read(spec([two], { memory: '256Mi' })), { hugepageBytes: 2 << 20, memoryBytes: 256 << 20 });
  // Kubelet lists what the node has, with 0 where the pod asked for none; others write "no limit" as a large number.
  for (const limits of [[], [none], [{ pageSize: '2MB', limit: 2 ** 63 }]]) {
    t.match(read(spec(limits)), { hugepageBytes: undefined, memoryBytes: 200 << 20 });
  }
  t.match(
    complaint(spec([two, { pageSize: '1GB', limit: GiB }])),
    /huge pages of 2Mi and of 1Gi; .*: remove one/,
  );
  t.match(
    complaint(spec([two], { memory: '1Gi' })),
    /guest memory 1Gi is more than the hugepages-2Mi limit 512Mi/,
  );
  t.match(complaint(spec([two], { memory: '255Mi' })), /255Mi is no multiple of 2Mi/);
  t.match(
    complaint(spec([{ pageSize: '2M', limit: 1 }])),
    /hugepageLimits\[0\].pageSize .* must be the size/,
  );
  t.end();
});
