import t from 'tap';
import { parseConfig } from '../../../src/core/config.ts';
import type { VmSpec } from '../../../src/core/vm-spec.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { isMachineOf, makeupOf, survivalOf } from '../../../src/vm/survival.ts';
import { baseInput } from '../qemu-plan/golden-cases.ts';

const host = new LinuxHost();
const config = parseConfig('', 'config.toml');
const spec: VmSpec = { ...baseInput.spec, onShimDeath: 'survive' };
const facts = {
  accel: 'tcg',
  accelReason: '',
  machineType: 'pc-q35-7.2',
  qemuVersion: '7.2.0',
  rootDisk: '',
  disks: [],
  shared: [],
  network: '',
  numa: '',
  cgroup: { kind: 'none', reason: '' },
  warnings: [],
};

void t.test('which guests run on without their shim', (t) => {
  const survives = (change: Partial<VmSpec>, netns?: string): boolean => {
    const request = {
      spec: { ...spec, ...change },
      config,
      rootfs: { path: '/b/rootfs', mounts: [] },
      netns,
    };
    const made = { logStart: 0, plan: { ram: { kind: 'whole' } }, facts };
    return survivalOf(host, request, made as never) !== undefined;
  };
  t.equal(survives({}), true);
  t.equal(survives({ onShimDeath: 'kill' }), false);
  t.equal(survives({ network: { mode: 'user', mac: '52:54:00:00:00:01', forwards: [] } }), true);
  t.equal(
    survives({ network: { mode: 'user', mac: '52:54:00:00:00:01', forwards: [] } }, '/ns'),
    false,
    'its namespace goes',
  );
  const mount = { destination: '/data', source: '/pods/data', readOnly: false };
  const shared = [{ tag: 'data', mount, access: 'rw', cache: 'auto' }] as never;
  t.equal(survives({ shared }), true, 'its virtiofsds do as well');
  t.end();
});

void t.test('what makes another machine, and what does not', (t) => {
  const same = (change: Partial<VmSpec>): boolean =>
    makeupOf({ ...spec, ...change }, []) === makeupOf(spec, []);
  t.equal(same({ name: 'other' }), true);
  t.equal(same({ vcpus: 3 }), false);
  t.equal(same({ memoryBytes: 2 ** 30 }), false);
  t.end();
});

void t.test('a CPU limit that is changed while the guest runs leaves the machine what it is', (t) => {
  const started = { ...spec, vcpus: 1, maxVcpus: 2 };
  const running = { makeup: makeupOf(started, []), vcpus: { started: 1, places: 2 } };
  const fits = (change: Partial<VmSpec>): boolean => isMachineOf(running, { ...started, ...change }, []);
  t.equal(fits({}), true);
  t.equal(fits({ vcpus: 2 }), true, 'it has a place for that');
  t.equal(fits({ vcpus: 3, maxVcpus: 3 }), false, 'and not for more');
  t.equal(fits({ vcpus: 2, memoryBytes: 2 ** 30 }), false, 'all else is compared');
  const full = { makeup: makeupOf({ ...spec, vcpus: 4 }, []), vcpus: { started: 4, places: 4 } };
  t.equal(isMachineOf(full, { ...spec, vcpus: 2 }, []), true, 'fewer: the cgroup takes the time away');
  const old = { makeup: makeupOf({ ...spec, vcpus: 1 }, []) };
  t.equal(isMachineOf(old, { ...spec, vcpus: 1 }, []), true, 'one of an older version, as it was');
  t.equal(isMachineOf(old, { ...spec, vcpus: 2 }, []), false);
  t.end();
});

void t.test('a memory limit that is changed while the guest runs does so as well', (t) => {
  const GIB = 2 ** 30;
  const started = { ...spec, memoryBytes: GIB, maxMemoryBytes: 2 * GIB };
  const running = {
    makeup: makeupOf(started, []),
    vcpus: { started: started.vcpus, places: started.vcpus },
    memory: { started: GIB, places: 2 * GIB },
  };
  const fits = (change: Partial<VmSpec>): boolean => isMachineOf(running, { ...started, ...change }, []);
  t.equal(fits({}), true);
  t.equal(fits({ memoryBytes: 2 * GIB }), true, 'it can have that');
  t.equal(fits({ memoryBytes: 2 * GIB + 2 ** 20 }), false, 'and not more');
  t.equal(fits({ memoryBytes: GIB / 2 }), true, 'less: the balloon takes it');
  t.equal(fits({ memoryBytes: 2 * GIB, uuid: 'other' }), false, 'all else is compared');
  t.equal(fits({ memoryBytes: GIB / 2, hugepageBytes: 2 << 20 }), false, 'huge pages stay as they are');
  t.end();
});
