import t from 'tap';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { loadNative } from '../../../src/host/native.ts';
import { readNicCounters } from '../../../src/net/nic-counters.ts';

const TABLE = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       1       1    0    0    0     0          0         0        1       1    0    0    0     0       0          0
vt0000000000001: 5000000000     100    1    2    0     0          0         0      700      10    3    4    0     0       0          0
`;

class OneTable extends LinuxHost {
  override readText(): string {
    return TABLE;
  }
}

void t.test('what a TAP receives its guest has sent', (t) => {
  const nic = { tap: 'vt0000000000001', netns: undefined, ifName: 'eth0' };
  t.same(readNicCounters(new OneTable(), loadNative(), [nic, { ...nic, tap: 'vt2' }]), [
    {
      ifName: 'eth0',
      received: { bytes: 700, packets: 10, errors: 3, dropped: 4 },
      sent: { bytes: 5_000_000_000, packets: 100, errors: 1, dropped: 2 },
    },
  ]);
  t.same(readNicCounters(new OneTable(), loadNative(), [{ ...nic, netns: '/run/netns/gone' }]), []);
  t.end();
});
