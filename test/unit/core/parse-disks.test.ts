import fc from 'fast-check';
import t from 'tap';
import type { DiskSpec } from '../../../src/core/disk-spec.ts';
import { VmError } from '../../../src/core/errors.ts';
import { type DiskEntry, parseDiskEntries } from '../../../src/core/parse-disk-entries.ts';
import { expectDistinct, parseDisks } from '../../../src/core/parse-disks.ts';
import { SpecField } from '../../../src/core/spec-field.ts';

const KUBELET = '/var/lib/kubelet/pods/u/volumes';

function entries(list: unknown): readonly DiskEntry[] {
  const parsed = parseDiskEntries(JSON.stringify(list));
  if (parsed === undefined) throw new Error('no list');
  return parsed;
}

function disks(spec: object, list: unknown = [], machine: 'q35' | 'microvm' = 'q35'): readonly DiskSpec[] {
  return parseDisks(entries(list), new SpecField(spec, 'config.json'), machine, []);
}

const mount = (destination: string, source: string, options = ['rbind', 'rw']): object => ({
  destination,
  source,
  options,
  type: 'bind',
});

/** A block volume as containerd writes it: the node, and a rule that allows it. */
const withDevices = (...devices: readonly [path: string, minor: number, access: string][]): object => ({
  linux: {
    devices: devices.map(([path, minor]) => ({ path, type: 'b', major: 7, minor })),
    resources: {
      devices: [
        { allow: false, access: 'rwm' },
        ...devices.map(([, minor, access]) => ({ allow: true, type: 'b', major: 7, minor, access })),
      ],
    },
  },
});

void t.test('a block volume is a disk, by its number and with the rights of its rule', (t) => {
  const spec = withDevices(
    ['/dev/data', 3, 'rwm'],
    ['/dev/snap', 4, 'rm'],
    ['/dev/root', 5, 'rwm'],
    ['/', 6, 'rwm'],
  );
  t.match(disks(spec), [
    {
      name: 'data',
      serial: 'data',
      source: { kind: 'device', path: '/dev/data', major: 7, minor: 3 },
      device: 'disk',
      bus: 'virtio',
      access: 'rw',
      boot: undefined,
      cache: 'auto',
      discard: true,
    },
    { name: 'snap', access: 'ro' },
  ]);
  t.equal(disks(spec).length, 2, 'the root disk is not among them');
  t.end();
});

void t.test('a privileged container’s devices are the node’s, not volumes', (t) => {
  const privileged = {
    linux: {
      devices: [
        { path: '/dev/vda', type: 'b', major: 254, minor: 0 },
        { path: '/dev/null', type: 'c', major: 1, minor: 3 },
      ],
      resources: { devices: [{ allow: true, access: 'rwm' }] },
    },
  };
  t.same(disks(privileged), []);
  t.match(disks(privileged, [{ name: 'x', volume: '/dev/vda' }]), [{ name: 'x', source: { minor: 0 } }]);
  t.end();
});

void t.test('mounts: which are volumes, and what they may be', (t) => {
  const found = disks({
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      mount('/etc/hosts', '/x/hosts'),
      mount('/dev/termination-log', '/x/log'),
      mount('/var/run/secrets/kubernetes.io/serviceaccount', `${KUBELET}/kubernetes.io~projected/token`),
      mount('/vmshim/guest-data', `${KUBELET}/kubernetes.io~secret/user-data`),
      mount('/var/lib/data/', `${KUBELET}/kubernetes.io~csi/pvc/mount`),
      mount('/etc/settings', `${KUBELET}/kubernetes.io~configmap/settings`, ['rbind', 'ro']),
      mount('/logs', '/srv/logs', ['rbind', 'ro']),
      { destination: '/tmpfs', type: 'tmpfs', source: 'tmpfs' },
    ],
  });
  t.match(found, [
    { name: 'var-lib-data', access: 'rw', source: { kind: 'file', file: 'disk.img', asked: false } },
    { name: 'etc-settings', access: 'ro', source: { kind: 'files', format: 'vfat', label: 'ETC-SETTING' } },
    { name: 'logs', access: 'ro', source: { kind: 'file', asked: false, mount: { readOnly: true } } },
  ]);
  t.equal(found.length, 3);
  t.end();
});

void t.test('the annotation makes disks, and says how volumes are seen', (t) => {
  const spec = {
    mounts: [
      mount('/a', '/src/a'),
      mount('/b', '/src/b', ['rbind', 'ro']),
      mount('/vmshim/ceph', `${KUBELET}/kubernetes.io~secret/ceph`, ['rbind', 'ro']),
      mount('/keys', `${KUBELET}/kubernetes.io~secret/keys`, ['rbind', 'ro']),
    ],
    ...withDevices(['/dev/c', 1, 'rwm']),
  };
  const found = disks(spec, [
    { name: 'two', volume: '/b', file: 'install.iso', device: 'cdrom', boot: 1 },
    { name: 'three', volume: '/dev/c', bus: 'scsi', cache: 'writeback', serial: 'WD-1', readOnly: true },
    { name: 'scratch', empty: '1.5Gi', discard: false },
    { name: 'golden', host: '/srv/golden.img', readOnly: true, bus: 'usb' },
    { name: 'one', volume: '/a', files: 'iso', label: 'Data_1' },
    {
      name: 'ceph',
      rbd: 'pool/image',
      monitors: ['10.0.0.1:6789', '[fd00::1]:3300'],
      user: 'vm',
      secret: '/vmshim/ceph',
    },
    { name: 'snap', rbd: 'pool/space/image@now', secret: '/keys' },
  ]);
  t.match(found, [
    { name: 'scratch', source: { kind: 'empty', bytes: 1.5 * 2 ** 30 }, discard: false, access: 'rw' },
    { name: 'golden', source: { kind: 'host', path: '/srv/golden.img' }, access: 'ro', bus: 'usb' },
    {
      name: 'ceph',
      source: {
        kind: 'rbd',
        pool: 'pool',
        namespace: undefined,
        image: 'image',
        snapshot: undefined,
        user: 'vm',
        monitors: [
          { host: '10.0.0.1', port: '6789' },
          { host: 'fd00::1', port: '3300' },
        ],
        secret: { destination: '/vmshim/ceph', source: `${KUBELET}/kubernetes.io~secret/ceph` },
      },
    },
    {
      name: 'snap',
      access: 'ro',
      source: { namespace: 'space', image: 'image', snapshot: 'now', monitors: [] },
    },
    { name: 'three', serial: 'WD-1', bus: 'scsi', cache: 'writeback', access: 'ro' },
    { name: 'one', source: { kind: 'files', format: 'iso', label: 'Data_1' }, access: 'ro' },
    {
      name: 'two',
      device: 'cdrom',
      bus: 'sata',
      boot: 1,
      access: 'ro',
      source: { file: 'install.iso', asked: true },
    },
  ]);
  t.equal(found.length, 7, 'the Secrets with keys are no disks of the guest');
  t.end();
});

void t.test('names from paths fit a serial, and are never those of the VM’s own disks', (t) => {
  const nameOf = (path: string): string | undefined => disks(withDevices([path, 1, 'rwm']))[0]?.name;
  t.equal(nameOf('/dev/xvda'), 'xvda');
  t.equal(nameOf('/block'), 'block');
  t.equal(nameOf('/dev/My_Disk.1'), 'my-disk-1');
  t.equal(nameOf('/root'), 'volume-root');
  t.equal(nameOf('/dev/guest-data'), 'volume-guest-data');
  t.match(nameOf('/dev/a-very-long-name-of-a-disk'), /^a-very-long-[0-9a-f]{8}$/);
  t.not(nameOf('/dev/a-very-long-name-of-a-disk'), nameOf('/dev/a-very-long-name-of-another'));
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
      const name = nameOf(`/x${text}`) ?? 'none';
      return /^[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?$/.test(name) && name !== 'root' && name !== 'guest-data';
    }),
    { seed: 20261122 },
  );
  t.end();
});

const complaint = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (VmError.is(error, 'InvalidArgument')) return error.message;
    throw error;
  }
  return 'no complaint';
};

void t.test('what cannot be is told with entry, key and remedy', (t) => {
  const spec = {
    mounts: [mount('/a', '/src/a'), mount('/b', '/src/b', ['ro'])],
    ...withDevices(['/dev/c', 1, 'rwm']),
  };
  for (const [list, message] of [
    [[{ empty: '1Gi' }], /entry 1: name is missing; give at most 20/],
    [[{ name: 'root', empty: '1Gi' }], /name is "root"; give .* neither "root" nor "guest-data"/],
    [[{ name: 'Big', empty: '1Gi' }], /name is "Big"/],
    [[{ name: 'x' }], /no source; give exactly one of volume, empty, host, rbd/],
    [[{ name: 'x', empty: '1Gi', host: '/y' }], /several sources \(empty, host\)/],
    [[{ name: 'x', empty: '1Gi', buss: 'scsi' }], /unknown key "buss"; did you mean "bus"\?/],
    [[{ name: 'x', empty: '65Ti' }], /empty is "65Ti"; give a size such as "10Gi", at most 64Ti/],
    [[{ name: 'x', empty: '0' }], /empty is "0"/],
    [[{ name: 'x', empty: 5 }], /empty is 5/],
    [[{ name: 'x', host: '/a/../b' }], /host is "\/a\/..\/b"/],
    [[{ name: 'x', host: 'b' }], /host is "b"/],
    [[{ name: 'x', rbd: 'pool' }], /rbd is "pool"; give "pool\/image"/],
    [[{ name: 'x', rbd: 'p/i/j/k' }], /rbd is "p\/i\/j\/k"; give "pool\/image"/],
    [[{ name: 'x', rbd: 'p/i@' }], /rbd is "p\/i@"; give .*"@snapshot" behind it/],
    [[{ name: 'x', rbd: 'p/i', monitors: ['a'] }], /monitors is a list; give a list of "host:port"/],
    [[{ name: 'x', rbd: 'p/i', monitors: ['a:0'] }], /monitors is a list; give a list of "host:port"/],
    [[{ name: 'x', rbd: 'p/i', monitors: [] }], /monitors is a list; give a list of "host:port"/],
    [[{ name: 'x', rbd: 'p/i' }], /secret is missing; give the mountPath of a Secret/],
    [[{ name: 'x', volume: '/a', secret: '/s' }], /secret goes with rbd only/],
    [
      [{ name: 'x', rbd: 'p/i', secret: '/s' }],
      /key in a Secret at "\/s", but no volume is mounted there; there are "\/a", "\/b"/,
    ],
    [[{ name: 'x', rbd: 'p/i@s', secret: '/a', readOnly: false }], /readOnly false, but it is a snapshot/],
    [[{ name: 'x', volume: '/a', file: '..' }], /file is ".."/],
    [[{ name: 'x', volume: '/a', file: 'a/b' }], /file is "a\/b"/],
    [[{ name: 'x', volume: '/a', file: 'a', files: 'iso' }], /file and files are both set/],
    [[{ name: 'x', empty: '1Gi', file: 'a' }], /file goes with volume only/],
    [
      [{ name: 'x', empty: '1Gi', boot: 100 }],
      /boot is 100; give .* other than 100, which is the root disk’s/,
    ],
    [[{ name: 'x', empty: '1Gi', serial: 'x'.repeat(21) }], /serial is "x+"; give at most 20/],
    [[{ name: 'x', empty: '1Gi', readOnly: 'yes' }], /readOnly is "yes"; give true or false/],
    [
      [
        { name: 'x', empty: '1Gi' },
        { name: 'x', empty: '2Gi' },
      ],
      /entry 2: name "x" is there twice/,
    ],
    [
      [{ name: 'x', volume: '/nowhere' }],
      /names the volume "\/nowhere", which is not there; there are "\/dev\/c", "\/a", "\/b"/,
    ],
    [
      [
        { name: 'x', volume: '/a' },
        { name: 'y', volume: '/a' },
      ],
      /"\/a" is given to two disks/,
    ],
    [[{ name: 'x', volume: '/b', readOnly: false }], /readOnly false, but it is mounted read-only/],
    [[{ name: 'x', volume: '/dev/c', file: 'y' }], /which is a block volume; remove file and files/],
    [
      [{ name: 'x', volume: '/a', device: 'cdrom', bus: 'virtio' }],
      /a cdrom on the bus "virtio".*use "sata" or "scsi"/,
    ],
    [[{ name: 'x', volume: '/b', bus: 'sata' }], /read-only, which disks on the bus "sata" cannot be/],
    [
      [
        { name: 'x', empty: '1Gi', boot: 1 },
        { name: 'y', empty: '1Gi', boot: 1 },
      ],
      /two disks have the boot order 1/,
    ],
    [
      [
        { name: 'x', empty: '1Gi', serial: 's' },
        { name: 's', empty: '1Gi' },
      ],
      /two disks have the serial "s"/,
    ],
    [[{ name: 'c', empty: '1Gi' }], /two disks have the name "c" \(empty disk, block volume \/dev\/c\)/],
  ] as const)
    t.match(
      complaint(() => disks(spec, list)),
      message,
      JSON.stringify(list),
    );
  for (const text of ['', '{}', '[1]', '[null]', 'x', '[[]]'])
    t.equal(parseDiskEntries(text), undefined, text);
  t.match(
    complaint(() => disks({}, [{ name: 'x', empty: '1Gi' }], 'microvm')),
    /machine "microvm" has no place for the disk "x" \(empty disk\)/,
  );
  t.same(
    disks({ mounts: [mount('/a', '/src/a')] }, [], 'microvm'),
    [],
    'a volume that nobody asked for is no disk there',
  );
  t.end();
});

void t.test('two volumes without disks may have names alike', (t) => {
  const alike = disks({ mounts: [mount('/a.b', '/1'), mount('/a-b', '/2')] });
  t.same(
    alike.map(({ name }) => name),
    ['a-b', 'a-b'],
  );
  t.match(
    complaint(() => expectDistinct(alike)),
    /two disks have the name "a-b"/,
  );
  t.end();
});

void t.test('any JSON is a list of entries, none, or refused with a sentence', (t) => {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(
        fc.array(
          fc.dictionary(fc.constantFrom('name', 'empty', 'volume', 'file', 'boot', 'x'), fc.jsonValue()),
        ),
        (list) => {
          complaint(() => parseDiskEntries(JSON.stringify(list)));
        },
      ),
      { seed: 20261122 },
    ),
  );
  t.end();
});
