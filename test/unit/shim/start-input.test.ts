import fc from 'fast-check';
import t from 'tap';
import { containerd, google } from '#wire';
import { VmError } from '../../../src/core/errors.ts';
import { parseStartInput } from '../../../src/shim/start-input.ts';

const { BootstrapParams } = containerd.runtime.bootstrap.v1;
const any = google.protobuf.Any.encode({
  typeUrl: 'runtimeoptions.v1.Options',
  value: Buffer.from('v'),
}).finish();

void t.test('the three forms', (t) => {
  t.same(parseStartInput(new Uint8Array(), 'c1', 'ns'), { kind: 'empty' });
  t.same(parseStartInput(any, 'c1', 'ns'), {
    kind: 'options',
    options: { typeUrl: 'runtimeoptions.v1.Options', value: Buffer.from('v') },
  });
  const params = {
    instanceId: 'c1',
    namespace: 'ns',
    logLevel: containerd.runtime.bootstrap.v1.LogLevel.LOG_LEVEL_DEBUG,
    containerdVersion: 'v2.3.4',
    containerdTtrpcAddress: '/run/c.sock.ttrpc',
    containerdGrpcAddress: '/run/c.sock',
    containerdBinary: '/usr/bin/containerd',
  };
  const parsed = { id: 'c1', namespace: 'ns', ttrpcAddress: '/run/c.sock.ttrpc', grpcAddress: '/run/c.sock' };
  t.same(parseStartInput(BootstrapParams.encode(params).finish(), 'c1', 'ns'), {
    kind: 'bootstrap',
    params: { ...parsed, socketDir: undefined, options: undefined },
  });
  const extensions = [{}, { value: { typeUrl: 'runtimeoptions.v1.Options', value: Buffer.from('v') } }];
  const full = BootstrapParams.encode({ ...params, extensions, socketDir: '/s' }).finish();
  t.same(parseStartInput(full, 'c1', 'ns'), {
    kind: 'bootstrap',
    params: {
      ...parsed,
      socketDir: '/s',
      options: { typeUrl: 'runtimeoptions.v1.Options', value: Buffer.from('v') },
    },
  });
  t.end();
});

void t.test('an id that looks like a type name is still an id', (t) => {
  const bytes = BootstrapParams.encode({ instanceId: 'a.b', namespace: 'ns' }).finish();
  t.equal(parseStartInput(bytes, 'a.b', 'ns').kind, 'bootstrap');
  t.equal(parseStartInput(bytes, 'c1', 'ns').kind, 'options', 'for another container it can only be an Any');
  t.end();
});

void t.test('anything else is refused in one sentence', (t) => {
  const refused = { name: 'VmError', kind: 'InvalidArgument' } as const;
  const other = BootstrapParams.encode({ instanceId: 'other', namespace: 'ns' }).finish();
  t.throws(() => parseStartInput(other, 'c1', 'ns'), {
    ...refused,
    message: /neither BootstrapParams for "c1"/,
  });
  t.throws(() => parseStartInput(Buffer.from([0xff]), 'c1', 'ns'), {
    ...refused,
    message: /no protobuf message/,
  });
  t.throws(() => parseStartInput(any.subarray(0, any.length - 1), 'c1', 'ns'), {
    ...refused,
    message: /no protobuf/,
  });
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (bytes) => {
      try {
        parseStartInput(bytes, 'c1', 'ns');
      } catch (error) {
        return VmError.is(error, 'InvalidArgument');
      }
      return true;
    }),
  );
  t.end();
});
