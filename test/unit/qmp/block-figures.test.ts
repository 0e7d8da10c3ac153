import t from 'tap';
import { queryBlockFigures } from '../../../src/qemu/block-figures.ts';
import { parseSchedstat, readGuestFigures } from '../../../src/vm/guest-figures.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { VmError } from '../../../src/core/errors.ts';

const stats = {
  rd_operations: 3,
  rd_bytes: 1536,
  rd_total_time_ns: 30,
  wr_operations: 2,
  wr_bytes: 1024,
  wr_total_time_ns: 20,
  flush_operations: 1,
  flush_total_time_ns: 10,
  failed_rd_operations: 1,
  failed_wr_operations: 2,
  failed_flush_operations: 4,
  failed_unmap_operations: 8,
};
const expected = {
  reads: 3,
  readBytes: 1536,
  readNs: 30,
  writes: 2,
  writtenBytes: 1024,
  writeNs: 20,
  flushes: 1,
  flushNs: 10,
  failed: 15,
};
const qmp = (replies: Record<string, unknown>) => ({
  execute: (command: string): Promise<unknown> => {
    const reply = replies[command];
    return reply instanceof Error ? Promise.reject(reply) : Promise.resolve(reply);
  },
});

void t.test('figures of disks, by the names of the plan', async (t) => {
  const reply = [
    { device: '', qdev: '/machine/peripheral/disk-root/virtio-backend', stats },
    { device: '', qdev: 'disk-usb', stats: { ...stats, rd_operations: -1 } },
    { device: 'pflash0', stats },
    { device: '', qdev: '/machine/system.flash0', stats },
  ];
  t.same(await queryBlockFigures(qmp({ 'query-blockstats': reply })), [
    { name: 'disk-root', ...expected },
    { name: 'disk-usb', ...expected, reads: 0 },
  ]);
  for (const odd of [{}, [1], [{ qdev: 'x' }]]) {
    await t.rejects(queryBlockFigures(qmp({ 'query-blockstats': odd })), {
      name: 'VmError',
      kind: 'Internal',
      message: /query-blockstats/,
    });
  }
});

void t.test('a machine without a balloon has figures as well', async (t) => {
  const { signal } = new AbortController();
  const threads = [{ 'cpu-index': 0, 'thread-id': process.pid }];
  const noStats = new VmError('NotFound', 'no balloon');
  const replies = { 'query-blockstats': [], 'query-cpus-fast': threads, 'qom-get': noStats };
  const read = (balloon: unknown) =>
    readGuestFigures(
      new LinuxHost(),
      { pid: process.pid, qmp: qmp({ ...replies, 'query-balloon': balloon }) },
      signal,
    );
  const figures = await read(new VmError('FailedPrecondition', 'no balloon'));
  t.match(figures, { balloonBytes: undefined, disks: [], vcpus: [{ index: 0 }] });
  t.ok(figures.vcpus[0]!.runNs > 0, 'we have run');
  t.equal((await read({ actual: 5 })).balloonBytes, 5);
  await t.rejects(read(new VmError('Unavailable', 'gone')), { name: 'VmError', kind: 'Unavailable' });
});

void t.test('the scheduler’s figures of a thread', (t) => {
  t.same(parseSchedstat('12 34 5\n'), { runNs: 12, waitNs: 34 });
  for (const text of ['', '0 0', 'x y z']) t.same(parseSchedstat(text), { runNs: 0, waitNs: 0 });
  t.end();
});
