import t from 'tap';
import { checkArgs, parseKeyed } from './check-args.ts';
import { loadQemuSchema } from './qemu-schema.ts';

const schema = loadQemuSchema();
const findings = (...args: string[]): string[] => checkArgs(schema, args);

void t.test('what QEMU would refuse is found', (t) => {
  const file = { driver: 'file', 'node-name': 'a', filename: '/x' };
  const blockdev = (json: object): string[] => findings('-blockdev', JSON.stringify(json));
  t.strictSame(blockdev(file), []);
  t.strictSame(blockdev({ ...file, aio: 'uring' }), ['blockdev-add.aio: no such value']);
  t.strictSame(blockdev({ ...file, 'cache-direct': true }), ['blockdev-add.cache-direct: no such member']);
  t.strictSame(blockdev({ ...file, 'read-only': 'on' }), [
    'blockdev-add.read-only: string instead of boolean',
  ]);
  t.strictSame(blockdev({ driver: 'file' }), ['blockdev-add.filename: missing']);
  t.strictSame(blockdev({ driver: 'qcow2', file: 'a', backing: null }), []);
  t.strictSame(blockdev({ driver: 'qcow2', file: { ...file, locking: 'auto' } }), []);
  t.not(blockdev({ driver: 'qcow2', file: 7 }).length, 0, 'none of an alternate');
  t.strictSame(findings('-netdev', '{"type":"user","id":"n","hostfwd":["tcp::1-:1"]}'), [
    'netdev_add.hostfwd[0]: not an object',
  ]);
  t.strictSame(findings('-object', '{"qom-type":"memory-backend-memfd","id":"r","size":"1G"}'), [
    'object-add.size: string instead of int',
  ]);
  t.strictSame(findings('-device', '{"driver":"virtio-rng-pci","id":"a","rgn":"b"}'), [
    '-device virtio-rng-pci: no property rgn',
  ]);
  t.strictSame(findings('-device', '{"driver":"virtio-blk-pci","id":"a","bootindex":"1"}'), [
    '-device virtio-blk-pci: bootindex is not of type int32',
  ]);
  t.strictSame(findings('-device', '{"driver":"floppy"}'), ['-device: floppy is not in the dump']);
  t.strictSame(findings('-machine', 'microvm,hpet=off'), ['-machine: no key hpet']);
  t.strictSame(findings('-machine', 'q36'), ['-machine: q36 is not in the dump']);
  t.strictSame(findings('-smp', 'cpu=1'), ['-smp: no key cpu']);
  t.strictSame(findings('-chardev', 'socket,id=a,fd=3,server=yes,wait=off'), [
    'chardev-add.backend.data.server: string instead of boolean',
  ]);
  t.strictSame(findings('-daemonize'), ['-daemonize: no value']);
  t.strictSame(findings('-hda', 'x'), ['-hda: not an option of the plan']);
  t.end();
});

void t.test('doubled commas are one comma', (t) => {
  t.strictSame(parseKeyed('on,a=b,,c,d=e=f'), { head: 'on', keys: { a: 'b,c', d: 'e=f' } });
  t.strictSame(parseKeyed('a=,,,b='), { head: undefined, keys: { a: ',', b: '' } });
  t.end();
});
