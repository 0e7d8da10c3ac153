import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../../../src/host/linux-host.ts';
import { openVhost } from '../../../../src/net/vhost.ts';
import { tempDir } from '../../../support/temp-dir.ts';

const host = new LinuxHost();
const openFds = (): number => readdirSync('/proc/self/fd').length;

void t.test('one descriptor for each queue', (t) => {
  const before = openFds();
  const vhost = openVhost(host, 3, '/dev/null');
  if (vhost.kind !== 'vhost') throw new Error(vhost.reason);
  t.equal(new Set(vhost.fds.map(({ fd }) => fd)).size, 3);
  t.equal(openFds(), before + 3);
  vhost[Symbol.dispose]();
  t.equal(openFds(), before);
  t.end();
});

void t.test('a device that is not there is a reason, not an error', (t) => {
  const device = join(tempDir(t), 'vhost-net');
  t.same(openVhost(host, 2, device), {
    kind: 'none',
    reason: `${device} does not exist; load the module (modprobe vhost_net) or use a kernel with CONFIG_VHOST_NET`,
  });
  t.end();
});

void t.test('so is one that fails half-way, and nothing stays open', (t) => {
  const before = openFds();
  let left = 2;
  const failing = new (class extends LinuxHost {
    override open(...args: Parameters<LinuxHost['open']>) {
      if (left-- === 0) return super.open('/proc/self/fd/none', args[1]);
      return super.open(...args);
    }
  })();
  t.equal(openVhost(failing, 4, '/dev/null').kind, 'none');
  t.equal(openFds(), before);
  t.match(openVhost(host, 1, '/'), { kind: 'none', reason: /modprobe vhost_net/ });
  t.end();
});
