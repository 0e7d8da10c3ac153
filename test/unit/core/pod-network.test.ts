import t from 'tap';
import { parseConfig } from '../../../src/core/config.ts';
import { parseVmSpec } from '../../../src/core/parse-spec.ts';
import type { NetworkSpec } from '../../../src/core/vm-spec.ts';

const pod = {
  'io.kubernetes.cri.container-type': 'container',
  'io.kubernetes.cri.sandbox-id': 'sandbox-1',
  'io.kubernetes.cri.sandbox-uid': 'b9b2d1f4-0000-4000-8000-000000000001',
  'io.kubernetes.cri.sandbox-name': 'web',
  'io.kubernetes.cri.sandbox-namespace': 'default',
  'io.kubernetes.cri.container-name': 'vm',
};

function network(annotations: Record<string, string>, namespaces: unknown, toml = ''): NetworkSpec {
  const spec = { annotations, linux: { namespaces } };
  return parseVmSpec({ id: 'c1', namespace: 'k8s.io', spec, config: parseConfig(toml, 'test') }).network;
}

const own = [{ type: 'pid' }, { type: 'network', path: '/proc/1/ns/net' }];

void t.test('the network of a VM in a pod', async (t) => {
  await t.test('is the pod’s, whatever the default for bare containers is', (t) => {
    t.same(network(pod, own), { mode: 'pod', wanted: 'any', guard: true });
    t.same(network(pod, own, '[defaults]\nnetwork = "none"'), { mode: 'pod', wanted: 'any', guard: true });
    t.end();
  });

  await t.test('can be asked for by one way only', (t) => {
    for (const wanted of ['tap', 'netns'] as const) {
      t.same(network({ ...pod, 'vmshim.io/network': wanted }, own), { mode: 'pod', wanted, guard: true });
    }
    t.same(network({ ...pod, 'vmshim.io/network': 'none' }, own), { mode: 'none' });
    t.end();
  });

  await t.test('is the default’s in the node’s own network (hostNetwork)', (t) => {
    t.match(network(pod, [{ type: 'pid' }]), { mode: 'user' });
    t.match(network(pod, undefined), { mode: 'user' });
    t.throws(() => network({ ...pod, 'vmshim.io/network': 'tap' }, [{ type: 'pid' }]), {
      message:
        'annotation vmshim.io/network is "tap" but there is no pod network: set it to "user" or "none"',
    });
    t.end();
  });

  await t.test('is what the sandbox has, whatever namespace a container’s spec names', (t) => {
    const config = parseConfig('', 'test');
    const spec = { annotations: pod, linux: { namespaces: own } };
    const input = { id: 'c1', namespace: 'k8s.io', spec, config };
    t.match(parseVmSpec({ ...input, podNetwork: false }).network, { mode: 'user' });
    t.match(parseVmSpec({ ...input, podNetwork: true }).network, { mode: 'pod' });
    t.end();
  });

  await t.test('takes no port forwards, and a MAC address to compare with', (t) => {
    t.throws(() => network({ ...pod, 'vmshim.io/port-forwards': 'tcp::1:1' }, own), {
      message: /port-forwards is set but the VM has the pod’s network: set vmshim.io\/network to "user"/,
    });
    t.match(network({ ...pod, 'vmshim.io/mac': '52:54:00:00:00:01' }, own), {
      mode: 'pod',
      mac: '52:54:00:00:00:01',
    });
    t.end();
  });

  await t.test('is without a guard only where the node allows it', (t) => {
    const allowed = '[network]\nallow_guard_off = true';
    const off = { ...pod, 'vmshim.io/spoof-guard': 'off' };
    t.match(network(off, own, allowed), { mode: 'pod', guard: false });
    t.match(network(pod, own, allowed), { guard: true });
    t.match(network({ ...pod, 'vmshim.io/spoof-guard': 'on' }, own), { guard: true });
    t.throws(() => network(off, own), {
      kind: 'InvalidArgument',
      message:
        'annotation vmshim.io/spoof-guard is "off", which this node does not allow: remove it, or set network.allow_guard_off = true in the config file',
    });
    t.throws(() => network({ ...pod, 'vmshim.io/spoof-guard': 'no' }, own), { message: /give on or off/ });
    t.end();
  });

  await t.test('needs a pod', (t) => {
    t.throws(() => network({ 'vmshim.io/network': 'pod' }, own), { message: /there is no pod network/ });
    t.throws(() => network(pod, 'x'), { message: /linux.namespaces of the container's spec must be a list/ });
    t.end();
  });
});
