import t from 'tap';
import type { StartInput } from '../../../src/shim/start-input.ts';
import { startAnswer } from '../../../src/shim/start-output.ts';

const empty: StartInput = { kind: 'empty' };
const options: StartInput = { kind: 'options', options: { typeUrl: 'x.y', value: new Uint8Array() } };
const bootstrap: StartInput = {
  kind: 'bootstrap',
  params: {
    id: 'c',
    namespace: 'n',
    ttrpcAddress: '',
    grpcAddress: '',
    socketDir: undefined,
    options: undefined,
  },
};
const plain = 'unix:///run/s/x';
const json = (version: number): string =>
  `{"version":${version},"address":"unix:///run/s/x","protocol":"ttrpc"}`;

const task = '/run/containerd/io.containerd.runtime.v2.task/k8s.io/s';
const sandbox = '/run/containerd/io.containerd.sandbox.controller.v1.shim/k8s.io/s';

void t.test('the answer that each containerd reads', (t) => {
  const answer = (input: StartInput, max: string | undefined, configured?: 2 | 3, bundle = task): string =>
    startAnswer('/run/s/x', { input, bundle, maxShimVersion: max }, configured);
  t.equal(answer(empty, undefined), plain, '1.6');
  t.equal(answer(options, undefined), plain, '1.6 with options');
  t.equal(answer(empty, ''), plain);
  t.equal(answer(empty, undefined, 3), plain, '1.6 knows no version 3, whatever is configured');
  t.equal(answer(empty, '2'), json(2), '1.7 to 2.2');
  t.equal(answer(options, '2'), json(2));
  t.equal(answer(options, '2', 3), json(3));
  t.equal(answer(empty, '2', undefined, sandbox), json(3), 'a sandbox of 2.0 to 2.2');
  t.equal(answer(options, '2', 2, sandbox), json(2), 'what is configured wins');
  t.equal(answer(bootstrap, '2'), json(3), '2.3');
  t.equal(answer(bootstrap, undefined), json(3));
  t.equal(answer(bootstrap, '2', 2), json(2));
  t.end();
});
