import t from 'tap';
import { parseAnnotations } from '../../../src/core/annotations.ts';
import { parseHardware } from '../../../src/core/parse-hardware.ts';

const hardware = (said: Record<string, string>, machine: 'q35' | 'microvm' = 'q35') =>
  parseHardware(
    parseAnnotations(
      Object.fromEntries(Object.entries(said).map(([key, value]) => [`vmshim.io/${key}`, value])),
    ),
    machine,
  );

const linux = {
  hyperv: false,
  clock: 'utc',
  video: 'none',
  diskBus: 'virtio',
  nicModel: 'virtio',
  onIoError: 'stop',
  watchdog: undefined,
};

void t.test('one annotation makes a machine for Windows, and each part can be said singly', (t) => {
  t.same(hardware({}), linux);
  t.same(hardware({ os: 'linux' }), linux);
  t.same(hardware({ os: 'windows' }), { ...linux, hyperv: true, clock: 'localtime', video: 'std' });
  t.same(hardware({ os: 'windows', hyperv: 'off', clock: 'utc', video: 'none' }), linux);
  t.same(hardware({ hyperv: 'on', video: 'qxl' }), { ...linux, hyperv: true, video: 'std' });
  t.same(hardware({ 'disk-bus': 'sata', 'nic-model': 'e1000e', 'on-io-error': 'report' }), {
    ...linux,
    diskBus: 'sata',
    nicModel: 'e1000e',
    onIoError: 'report',
  });
  t.same(hardware({ watchdog: 'none' }), linux);
  t.same(hardware({ watchdog: 'i6300esb' }), { ...linux, watchdog: 'reset' });
  t.same(hardware({ watchdog: 'i6300esb', 'watchdog-action': 'nmi' }), { ...linux, watchdog: 'nmi' });
  t.throws(() => hardware({ 'watchdog-action': 'nmi' }), {
    kind: 'InvalidArgument',
    message: /watchdog-action is "nmi" but the VM has no watchdog: set vmshim.io\/watchdog to "i6300esb"/,
  });
  t.end();
});

void t.test('a microvm takes what it can have, and says what it cannot', (t) => {
  t.same(hardware({ os: 'linux', video: 'none', 'disk-bus': 'virtio', 'on-io-error': 'report' }, 'microvm'), {
    ...linux,
    onIoError: 'report',
  });
  for (const [key, value] of [
    ['os', 'windows'],
    ['video', 'std'],
    ['disk-bus', 'sata'],
    ['nic-model', 'e1000e'],
    ['watchdog', 'i6300esb'],
  ] as const) {
    t.throws(() => hardware({ [key]: value }, 'microvm'), {
      kind: 'InvalidArgument',
      message: `annotation vmshim.io/${key} is "${value}", which a microvm has no PCI for: remove it or set vmshim.io/machine to "q35"`,
    });
  }
  t.end();
});
