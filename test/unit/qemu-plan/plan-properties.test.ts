import fc from 'fast-check';
import t, { type Test } from 'tap';
import { renderOption } from '../../../src/qemu/option.ts';
import { PCI_SLOTS, rootPortAddress } from '../../../src/qemu/pci-address.ts';
import { planQemu } from '../../../src/qemu/plan.ts';
import type { HardwareSpec } from '../../../src/core/hardware-spec.ts';
import type { GuestRam } from '../../../src/core/guest-ram.ts';
import type { QemuInput } from '../../../src/qemu/qemu-input.ts';
import { checkArgs, parseArgs, parseKeyed } from './check-args.ts';
import { baseInput } from './golden-cases.ts';
import { loadQemuSchema } from './qemu-schema.ts';

const schema = loadQemuSchema();

// Anything but NUL, with the characters of QEMU's grammars far more often than chance would have them.
const text = fc
  .array(
    fc.oneof(fc.constantFrom(',', ',,', '=', '{', '"', ' ', '-', ',process='), fc.string({ unit: 'binary' })),
  )
  .map((parts) => parts.join('').replaceAll('\0', ''));

const forward = fc.record({
  protocol: fc.constantFrom('tcp' as const, 'udp' as const),
  hostAddress: fc.constantFrom('', '127.0.0.1', '10.0.0.1'),
  hostPort: fc.integer({ min: 1, max: 65535 }),
  guestPort: fc.integer({ min: 1, max: 65535 }),
});

const kernelBoot = fc.record({
  kind: fc.constant('kernel' as const),
  kernel: fc.constant('/k'),
  initrd: fc.constantFrom('/i', undefined),
  cmdline: text,
  disk: fc.constant('optional' as const),
});

const rootDevice = fc.record({
  format: fc.constant('raw' as const),
  offset: fc.constantFrom(0, 2 ** 20),
  size: fc.integer({ min: 1, max: 2 ** 40 }).map((sectors) => sectors * 512),
});

const rootOverlay = fc.record({
  format: fc.constant('qcow2' as const),
  base: fc.constantFrom(undefined, { format: 'qcow2' as const }, { format: 'raw' as const }),
  cache: fc.constantFrom('none' as const, 'writeback' as const),
});

const hardware: fc.Arbitrary<HardwareSpec> = fc.record({
  hyperv: fc.boolean(),
  clock: fc.constantFrom('utc', 'localtime'),
  video: fc.constantFrom('none', 'std', 'virtio'),
  diskBus: fc.constantFrom('virtio', 'scsi', 'sata', 'usb'),
  nicModel: fc.constantFrom('virtio', 'e1000e', 'rtl8139'),
  onIoError: fc.constantFrom('stop', 'report'),
  watchdog: fc.constantFrom(undefined, 'reset', 'pause', 'nmi', 'none'),
});

const host = fc.record({
  node: fc.nat(7),
  policy: fc.constantFrom('bind' as const, 'preferred' as const),
});

const ram: fc.Arbitrary<GuestRam> = fc.oneof(
  fc.record({ kind: fc.constant('whole' as const), host: fc.option(host, { nil: undefined }) }),
  fc
    .array(fc.record({ vcpus: fc.integer({ min: 1, max: 64 }), memoryBytes: fc.nat(), host }), {
      minLength: 2,
      maxLength: 4,
    })
    .map((nodes) => ({
      kind: 'nodes' as const,
      nodes,
      distances: nodes.map((_, from) => nodes.map((_, to) => (from === to ? 10 : 21))),
    })),
);
/** Of any bus and kind, each with a name of its own. */
const volumes = fc
  .array(
    fc.record({
      row: fc.constantFrom('own' as const, 'device' as const, 'mount' as const),
      device: fc.constantFrom('disk' as const, 'disk' as const, 'cdrom' as const),
      bus: fc.constantFrom('virtio' as const, 'scsi' as const, 'sata' as const, 'usb' as const),
      backend: fc.constantFrom('file' as const, 'host_device' as const),
      readOnly: fc.boolean(),
      cache: fc.constantFrom('none' as const, 'writeback' as const),
      aio: fc.constantFrom('threads' as const, 'native' as const, 'io_uring' as const),
      discard: fc.boolean(),
      blockSize: fc.constantFrom(undefined, { logical: 4096, physical: 4096 }),
      boot: fc.boolean(),
    }),
    { maxLength: 6 },
  )
  .map((list) =>
    list.map(({ boot, ...volume }, index) => ({
      ...volume,
      bus: volume.device === 'cdrom' ? ('sata' as const) : volume.bus,
      name: `v${index}`,
      serial: `s${index}`,
      boot: boot ? 98 + index + (index > 1 ? 1 : 0) : undefined,
    })),
  );

/** Every combination that the plan accepts. */
const inputs: fc.Arbitrary<QemuInput> = fc
  .record({
    microvm: fc.boolean(),
    disk: fc.option(fc.oneof(rootOverlay, rootDevice), { nil: undefined }),
    kernel: fc.option(kernelBoot, { nil: undefined }),
    guestDrive: fc.boolean(),
    volumes,
    firmware: fc.constantFrom('bios' as const, 'uefi' as const, 'uefi-secure' as const),
    hardware,
    name: text,
    vcpus: fc.integer({ min: 1, max: 288 }),
    growth: fc.nat(4),
    nested: fc.boolean(),
    mib: fc.integer({ min: 1, max: 1 << 20 }),
    ram,
    hugepageBytes: fc.constantFrom(undefined, 1024 * 1024),
    forwards: fc.option(fc.array(forward, { maxLength: 3 }), { nil: undefined }),
    accel: fc.constantFrom('kvm' as const, 'tcg' as const),
    aio: fc.constantFrom('threads' as const, 'io_uring' as const),
  })
  .filter(
    ({ microvm, disk, kernel, firmware }) =>
      (kernel !== undefined || disk !== undefined) &&
      !(microvm && (firmware !== 'bios' || kernel === undefined)),
  )
  .map(
    ({
      microvm,
      disk,
      kernel,
      firmware,
      hardware,
      guestDrive,
      volumes,
      name,
      vcpus,
      growth,
      nested,
      mib,
      forwards,
      accel,
      aio,
      ram,
      hugepageBytes,
    }) => ({
      spec: {
        ...baseInput.spec,
        name,
        vcpus,
        maxVcpus: ram.kind === 'whole' ? vcpus + growth : vcpus,
        nested,
        memoryBytes: mib * 1024 * 1024,
        maxMemoryBytes: (mib + (microvm || hugepageBytes !== undefined ? 0 : 33 * growth)) * 1024 * 1024,
        hugepageBytes,
        machine: microvm ? 'microvm' : 'q35',
        hardware: microvm ? baseInput.spec.hardware : hardware,
        boot: kernel ?? { kind: 'disk' },
        network:
          forwards === undefined ? { mode: 'none' } : { mode: 'user', mac: '52:54:00:00:00:01', forwards },
      },
      accel,
      ram,
      machineType: microvm ? 'microvm' : 'pc-q35-7.2',
      rootDisk: disk,
      guestDrive,
      volumes: microvm ? [] : volumes,
      nics: [],
      firmware:
        firmware === 'bios' ? { kind: firmware } : { kind: firmware, codePath: '/usr/share/OVMF/code.fd' },
      aio,
    }),
  );

/** One JSON option; `bus` and `addr` are those of a device. */
interface Fields extends Readonly<Record<string, unknown>> {
  readonly driver?: string;
  readonly bus?: string;
  readonly addr?: string;
  readonly port?: string;
  readonly 'scsi-id'?: number;
}

/** A device's place on its bus; a SATA port is a bus of its own. */
function placeOf({ bus = '', addr, port, 'scsi-id': target }: Fields): string {
  return `${bus} ${addr ?? port ?? target ?? ''}`;
}

function jsonOf(input: QemuInput, flag: string): Fields[] {
  return parseArgs(planQemu(input).args)
    .filter((option) => option.flag === flag)
    .map(({ value }) => JSON.parse(value ?? '') as Fields);
}

function check(t: Test, property: (input: QemuInput) => unknown): void {
  t.doesNotThrow(() =>
    fc.assert(
      fc.property(inputs, (input) => void property(input)),
      { seed: 20261122, numRuns: 300 },
    ),
  );
  t.end();
}

void t.test('QEMU 7.2 knows every option of every plan', (t) => {
  check(t, (input) => expectSame(checkArgs(schema, planQemu(input).args), []));
});

void t.test('no two devices or nodes share an address or a name', (t) => {
  check(t, (input) => {
    const devices = jsonOf(input, '-device');
    expectDistinct(devices.flatMap((device) => (device.bus === undefined ? [] : [placeOf(device)])));
    expectDistinct(devices.map(({ id }) => id));
    expectDistinct(jsonOf(input, '-blockdev').map((node) => node['node-name']));
    expectDistinct(jsonOf(input, '-object').map(({ id }) => id));
  });
});

void t.test('virtio and PCI devices always have their own place, whatever else is there', (t) => {
  const places = new Map<string, string>();
  check(t, (input) => {
    const named = new Map(input.volumes.map((volume) => [`volume-${volume.name}`, volume]));
    for (const device of jsonOf(input, '-device')) {
      const { driver, id } = device;
      if (driver === 'isa-serial') continue;
      const volume = named.get(String(id));
      // Which of its kind it is decides a disk's place.
      const alike = input.volumes.filter(
        ({ bus, row }) => bus === volume?.bus && (bus !== 'virtio' || row === volume.row),
      );
      // A model, or a disk's bus, is a choice of the pod's; the place goes with it.
      const what =
        volume === undefined
          ? `${String(driver)} ${String(id)}`
          : `${volume.bus} ${volume.bus === 'virtio' ? volume.row : ''} ${alike.indexOf(volume)}`;
      const key = `${input.spec.machine} ${what}`;
      const place = placeOf(device);
      expectSame(places.get(key) ?? place, place);
      places.set(key, place);
    }
  });
});

void t.test('every descriptor is used once or more, and no other', (t) => {
  check(t, (input) => {
    const { args, fds } = planQemu(input);
    const used = new Set(
      parseArgs(args).flatMap(({ flag, value = '' }) => {
        if (flag === '-chardev' || flag === '-add-fd') return [Number(parseKeyed(value).keys['fd'])];
        if (flag === '-kernel' || flag === '-initrd') return [Number(value.replace('/proc/self/fd/', ''))];
        return [];
      }),
    );
    expectDistinct(fds);
    expectSame(
      [...used].toSorted((a, b) => a - b),
      fds.map((_, index) => index + 3),
    );
    // A descriptor set is only worth something to the node that opens it.
    const sets = parseArgs(args).flatMap(({ flag, value = '' }) =>
      flag === '-add-fd' ? [`/dev/fdset/${parseKeyed(value).keys['set'] ?? ''}`] : [],
    );
    const opened = jsonOf(input, '-blockdev').flatMap(({ filename }) =>
      String(filename).startsWith('/dev/fdset/') ? [filename] : [],
    );
    expectSame(opened.toSorted(), sets.toSorted());
  });
});

void t.test('a user’s text stays one value', (t) => {
  check(t, (input) => {
    const options = parseArgs(planQemu(input).args);
    const valueOf = (flag: string): string | undefined =>
      options.find((option) => option.flag === flag)?.value;
    expectSame(parseKeyed(valueOf('-name') ?? ''), {
      head: undefined,
      keys: { guest: input.spec.name, 'debug-threads': 'on' },
    });
    const { boot } = input.spec;
    expectSame(valueOf('-append'), boot.kind === 'kernel' ? boot.cmdline : undefined);
  });
});

void t.test('a block node is opened only over nodes that stand before it', (t) => {
  check(t, (input) => {
    const known = new Set<unknown>();
    for (const { file, backing, driver, 'node-name': name } of jsonOf(input, '-blockdev')) {
      for (const child of [file, backing])
        if (typeof child === 'string') expectSame([child, known.has(child)], [child, true]);
      // Left out, QEMU would follow the path in the image's header.
      if (driver === 'qcow2' && backing === undefined)
        throw new Error(`${String(name)} says nothing of its backing`);
      known.add(name);
    }
  });
});

void t.test('equal inputs make equal plans', (t) => {
  check(t, (input) => expectSame(planQemu(structuredClone(input)), planQemu(input)));
});

void t.test('the slot table', (t) => {
  const slots = Object.values(PCI_SLOTS);
  t.equal(new Set(slots).size, slots.length);
  t.notOk(
    slots.some((slot) => slot <= 0 || slot >= 0x1f),
    'the ends are the chipset’s',
  );
  t.strictSame(
    [0, 3].map((index) => rootPortAddress(index).addr),
    ['10.0', '10.3'],
  );
  t.end();
});

void t.test('how options are written', (t) => {
  t.strictSame(renderOption({ flag: '-S' }), ['-S']);
  t.strictSame(renderOption({ flag: '-append', text: 'a,b' }), ['-append', 'a,b']);
  t.strictSame(renderOption({ flag: '-sandbox', head: 'on', keys: {} }), ['-sandbox', 'on']);
  t.strictSame(renderOption({ flag: '-name', keys: { guest: 'a,b=,', n: 1, x: true, y: false } }), [
    '-name',
    'guest=a,,b=,,,n=1,x=on,y=off',
  ]);
  t.strictSame(renderOption({ flag: '-object', json: { a: undefined, b: null } }), ['-object', '{"b":null}']);
  t.throws(() => renderOption({ flag: '-append', text: 'a\0' }), /NUL/);
  t.end();
});

function expectSame(actual: unknown, expected: unknown): void {
  const [left, right] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${left} instead of ${right}`);
}

function expectDistinct(values: readonly unknown[]): void {
  expectSame(values, [...new Set(values)]);
}
