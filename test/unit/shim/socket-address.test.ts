import { createHash } from 'node:crypto';
import t from 'tap';
import { shimGroup, shimSocketPath } from '../../../src/shim/socket-address.ts';

void t.test('the socket’s name is containerd’s hash', (t) => {
  const hash = createHash('sha256').update('/run/containerd/containerd.sock/k8s.io/abc').digest('hex');
  t.equal(
    shimSocketPath('/run/containerd/s', '/run/containerd/containerd.sock', 'k8s.io', 'abc'),
    `/run/containerd/s/${hash}`,
  );
  t.equal(hash.length, 64);
  t.end();
});

void t.test('a path that no socket can have', (t) => {
  const room = 107 - 1 - 64;
  t.equal(shimSocketPath(`/${'d'.repeat(room - 1)}`, 'a', 'n', 'g').length, 107);
  t.throws(() => shimSocketPath(`/${'d'.repeat(room)}`, 'a', 'n', 'g'), {
    kind: 'InvalidArgument',
    message: /longer than the 107 bytes .* choose a shorter socket directory/,
  });
  t.throws(
    () => shimSocketPath(`/${'é'.repeat(room / 2)}`, 'a', 'n', 'g'),
    { kind: 'InvalidArgument', message: /longer/ },
    'bytes, not letters',
  );
  t.end();
});

void t.test('the group that shares a shim', (t) => {
  const group = 'io.containerd.runc.v2.group';
  const pod = 'io.kubernetes.cri.sandbox-id';
  const of = (annotations: unknown): string => shimGroup({ annotations }, 'own');
  t.equal(of({ [group]: 'g', [pod]: 'p' }), 'g');
  t.equal(of({ [pod]: 'p' }), 'p');
  t.equal(of({ [group]: '', [pod]: 'p' }), 'p');
  t.equal(of({ [pod]: 7 }), 'own');
  for (const nothing of [{}, null, undefined, 'x', []]) t.equal(of(nothing), 'own');
  for (const spec of [undefined, null, 'x', {}, []]) t.equal(shimGroup(spec, 'own'), 'own');
  t.end();
});
