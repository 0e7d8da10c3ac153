import t from 'tap';
import { parseConfig } from '../../../src/core/config.ts';
import { parseVmSpec } from '../../../src/core/parse-spec.ts';
import type { VmSpec } from '../../../src/core/vm-spec.ts';

const config = parseConfig('', 'test');
const pod = {
  'io.kubernetes.cri.container-type': 'container',
  'io.kubernetes.cri.sandbox-id': 'sb',
  'io.kubernetes.cri.sandbox-uid': '0d7f6c1e-88a5-4b0e-9f63-0a1b2c3d4e5f',
  'io.kubernetes.cri.sandbox-name': 'web-1',
  'io.kubernetes.cri.sandbox-namespace': 'shop',
  'io.kubernetes.cri.container-name': 'vm',
};
const volume = {
  destination: '/vmshim/root/',
  type: 'bind',
  source: '/var/lib/kubelet/pods/u/volumes/x/y',
  options: ['rbind', 'rw'],
};
const device = { path: '/', type: 'b', major: 8, minor: 16, fileMode: 432 };

function parse(spec: object, annotations: Record<string, string> = {}, owner: object = pod): VmSpec {
  return parseVmSpec({
    id: 'c1',
    namespace: 'k8s.io',
    spec: { ...spec, annotations: { ...owner, ...annotations } },
    config,
  });
}

void t.test('where the root disk is kept', (t) => {
  t.same(parse({}).rootPlace, { kind: 'own' });
  t.same(parse({}, { 'vmshim.io/root-key': 'uid' }).rootPlace, { kind: 'own' });
  t.same(parse({}, { 'vmshim.io/root-key': 'name' }).rootPlace, { kind: 'name' });
  t.same(parse({ mounts: [{ destination: '/vmshim/roots', source: 'x' }, volume] }).rootPlace, {
    kind: 'volume',
    directory: volume.source,
  });
  t.same(parse({ mounts: [volume] }, {}, {}).rootPlace.kind, 'volume', 'of a bare container as well');
  for (const path of ['/', '/dev/root']) {
    const others = [
      { path: '/dev/null', type: 'c', major: 1, minor: 3 },
      { path: '/dev/data', type: 'b', major: 8, minor: 32 },
    ];
    t.same(parse({ linux: { devices: [...others, { ...device, path }] } }).rootPlace, {
      kind: 'device',
      path,
      major: 8,
      minor: 16,
      fill: 'once',
    });
  }
  t.match(parse({ linux: { devices: [device] } }, { 'vmshim.io/root-fill': 'never' }).rootPlace, {
    fill: 'never',
  });
  t.end();
});

void t.test('a VM whose disk is kept by name is the same VM under another UID', (t) => {
  const other = { ...pod, 'io.kubernetes.cri.sandbox-uid': 'another' };
  const byName = { 'vmshim.io/root-key': 'name' };
  t.equal(parse({}, byName).uuid, parse({}, byName, other).uuid);
  t.not(parse({}, byName).uuid, parse({}).uuid);
  t.not(parse({}).uuid, parse({}, {}, other).uuid);
  const elsewhere = { ...pod, 'io.kubernetes.cri.sandbox-namespace': 'bank' };
  t.not(parse({}, byName).uuid, parse({}, byName, elsewhere).uuid);
  t.end();
});

void t.test('what contradicts itself is refused', (t) => {
  const refused = (message: RegExp, ...call: Parameters<typeof parse>): void =>
    void t.throws(() => parse(...call), { kind: 'InvalidArgument', message });
  refused(/two volumes for its root disk .*volume at \/vmshim\/root.*block volume at "\/"/, {
    mounts: [volume],
    linux: { devices: [device] },
  });
  refused(/mounted read-only/, { mounts: [{ ...volume, options: ['rbind', 'ro'] }] });
  refused(/mounts\[0\].source/, { mounts: [{ ...volume, source: 'relative' }] });
  refused(
    /root-key is "name", but the root disk is kept on the volume/,
    { mounts: [volume] },
    {
      'vmshim.io/root-key': 'name',
    },
  );
  refused(/in no pod/, {}, { 'vmshim.io/root-key': 'name' }, {});
  refused(/root-fill is set, but there is no block volume/, {}, { 'vmshim.io/root-fill': 'never' });
  refused(/devices\[0\].type .*block volume/, { linux: { devices: [{ ...device, type: 'c' }] } });
  refused(/devices\[0\].minor/, { linux: { devices: [{ ...device, minor: undefined }] } });
  t.end();
});
