/**
 * The real cloud-init of a Debian guest, which boots as Debian's cloud images do, configures the guest from our drives: in
 * pods, with the addresses that CNI gave them. What its parsers make of odd data is in guest-data-readers.test.ts.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Mount } from '../support/cri/messages.ts';
import { cloudImage } from '../support/cloud-guest.ts';
import { criContainerd } from '../support/cri-containerd.ts';
import { hostLocal } from '../support/cri-node-network.ts';
import { ROUTED_NETWORK } from '../support/cri-guest.ts';
import { type Attached, type ContainerOptions, type CriContainer, CriPod } from '../support/cri-pod.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPoo9bLxdKlQDBnr2BDaBlNzTFI0ZwWBlTpZD0tqbc5h me@example';
const PROMPT = /cloud# $/;

/** As an editor on Windows writes it. */
const USER_DATA = `#cloud-config
write_files:
  - path: /etc/from-user-data
    content: two words
  - path: /root/lease
    permissions: '0755'
    content: |
      #!/bin/sh
      [ "$1" = bound ] && echo "lease $ip/$mask router=$router mtu=$mtu dns=$dns"
runcmd:
  - echo once >>/var/lib/ran
`.replaceAll('\n', '\r\n');

/** As much as there may be, in two parts: a script that fills it, and what runs a command. */
function multipart(): Buffer {
  const head = `Content-Type: multipart/mixed; boundary="=="
MIME-Version: 1.0

--==
Content-Type: text/cloud-config

#cloud-config
runcmd: [echo once >>/var/lib/ran]
--==
Content-Type: text/x-shellscript

#!/bin/sh
echo "script of $(wc -c <"$0") bytes" >>/var/lib/ran
exit
`;
  const end = '\n--==--\n';
  const filler = `${'#'.repeat(1023)}\n`.repeat(10 << 10).slice(head.length + end.length);
  return Buffer.from(`${head}${filler}${end}`);
}

void t.test('cloud-init', async (t) => {
  const image = await cloudImage();
  const node = await criContainerd(t, {
    images: [image],
    vmPlugins: (network, stateDir) => {
      const bridge = { bridge: network.bridge, isGateway: true, mtu: 1400 };
      return [{ type: 'vm-tap', ...bridge, stateDir, ipam: hostLocal(network) }];
    },
    handlers: {
      routed: (network, stateDir) => {
        const ipam = hostLocal({ ...network, ...ROUTED_NETWORK });
        return [{ type: 'vm-tap', mode: 'routed', stateDir, ipam }];
      },
    },
  });
  const options = (pod: CriPod, userData: string | Buffer, said = {}): ContainerOptions => ({
    image: image.name,
    stdin: true,
    annotations: { 'vmshim.io/memory': '512Mi', ...image.kernelBoot, ...said },
    mounts: [secret(pod, 'user', { 'user-data': userData })],
  });
  const [bridged, routed] = await Promise.all([
    CriPod.run(t, node),
    CriPod.run(t, node, { name: 'web-1', handler: 'routed' }),
  ]);
  const said = { 'vmshim.io/ssh-keys': KEY, 'vmshim.io/hostname': 'web-0.shop.example' };
  const [first, other] = await Promise.all([
    CloudGuest.boot(t, bridged, options(bridged, USER_DATA, said)),
    CloudGuest.boot(t, routed, options(routed, multipart(), { 'vmshim.io/guest-data': 'nocloud' })),
  ]);
  const addresses = { first: await bridged.addresses(), other: await routed.addresses() };
  const [ip4 = '', ip6 = ''] = addresses.first;

  await t.test('a config drive: the guest is what pod and user say', async (t) => {
    t.match(await first.ask('cat /run/cloud-init/ds-identify.log'), 'Found single datasource: ConfigDrive');
    t.match(
      await first.ask('cloud-init status --long'),
      /status: done[^]*DataSourceConfigDrive \[net,ver=2\]\[source=\/dev\/vdb\]/,
    );
    const { ds, instance_id: instance } = JSON.parse(await first.ask('cloud-init query --all')) as Query;
    t.equal(ds.meta_data.uuid, instance);
    t.match(await first.ask('cat /sys/class/dmi/id/product_uuid'), instance, 'the SMBIOS UUID');
    t.equal(ds.meta_data.hostname, 'web-0.shop.example');
    t.equal((await first.ask('hostname')).trim(), 'web-0');
    t.equal((await first.ask('cat /home/debian/.ssh/authorized_keys')).trim(), KEY);
    t.equal(await first.ask('cat /etc/from-user-data; echo; cat /var/lib/ran'), 'two words\nonce\n');
    t.equal(await first.ask('cat /etc/cloud/environment'), 'KUBERNETES_SERVICE_HOST=10.96.0.1\n');
    t.end();
  });

  await t.test('and its card has the pod’s addresses without asking anybody', async (t) => {
    const link = await first.ask('ip address show enp0s3');
    t.match(link, new RegExp(`mtu 1400 [^]*inet ${ip4}/24 [^]*inet6 ${ip6}/64 scope global`));
    t.notMatch(link, / metric \d/, 'not from a lease');
    t.match(await first.ask('ip route'), /^default via 10\.88\.0\.1 dev enp0s3 proto static/m);
    t.match(await first.ask('ip -6 route'), /^default via fd00:88:0:1::1 dev enp0s3 proto static/m);
    t.match(
      await first.ask('resolvectl dns enp0s3; resolvectl domain enp0s3'),
      /10\.96\.0\.10\n[^]*shop\.svc\.cluster\.local/,
    );
    t.match(
      await first.ask('busybox udhcpc -i enp0s3 -n -q -f -s /root/lease'),
      new RegExp(`lease ${ip4}/24 router=10\\.88\\.0\\.1 mtu=1400 dns=10\\.96\\.0\\.10`),
      'DHCP says the same',
    );
    t.end();
  });

  await t.test('programs that are not ours find the drive sound', async (t) => {
    t.match(
      await first.ask('blkid -p /dev/vdb'),
      / LABEL_FATBOOT="config-2" LABEL="config-2" .*TYPE="vfat" USAGE="filesystem"/,
    );
    t.match(await first.ask('ls /dev/disk/by-label /dev/disk/by-id'), /virtio-guest-data[^]*config-2/);
    t.match(await first.ask('fsck.vfat -n /dev/vdb; echo "status $?"'), /66\/32695 clusters\nstatus 0/);
    t.match(await first.ask('mdir -b -i /dev/vdb ::/openstack/latest'), /latest\/meta_data\.json/);
    t.end();
  });

  await t.test(
    'NoCloud, with user data of 10 MiB in parts and a gateway that is on no network',
    async (t) => {
      t.match(await other.ask('cat /run/cloud-init/ds-identify.log'), 'Found single datasource: NoCloud');
      t.match(
        await other.ask('cloud-init status --long'),
        /status: done[^]*DataSourceNoCloud \[seed=\/dev\/vdb\]\[dsmode=net\]/,
      );
      t.match(await other.ask('cat /var/lib/ran'), /^script of 10\d{6} bytes\nonce\n$/);
      t.equal((await other.ask('hostname')).trim(), 'web-1');
      t.equal(await other.ask('cat /etc/cloud/environment'), 'KUBERNETES_SERVICE_HOST=10.96.0.1\n');
      const [other4 = '', other6 = ''] = addresses.other;
      const link = await other.ask('ip address show eth0');
      t.match(link, new RegExp(`inet ${other4}/32 metric 100 [^]*inet6 ${other6}/128 scope global`));
      t.match(await other.ask('ip route'), /^default via 10\.89\.0\.1 dev eth0 proto dhcp/m);
      t.match(await other.ask('ip -6 route'), /^default via fe80::1 dev eth0 proto static/m);
      for (const ip of ['10.88.0.1', 'fd00:88:0:1::1', ...addresses.first])
        t.match(await other.ask(`busybox ping -c 3 -W 20 ${ip}`), /[1-9] packets received/, `reaches ${ip}`);
      t.end();
    },
  );

  await t.test('a container that starts again is the same instance', async (t) => {
    const id = await first.ask('cat /var/lib/cloud/data/instance-id');
    await first.powerOff();
    const changed = USER_DATA.replaceAll('once', 'twice').replace('two words', 'other words');
    const again = await CloudGuest.boot(t, bridged, { ...options(bridged, changed, said), attempt: 1 });
    t.equal(await again.ask('cat /var/lib/cloud/data/instance-id'), id);
    t.equal(await again.ask('cat /etc/from-user-data; echo; cat /var/lib/ran'), 'two words\nonce\n');
    t.match(await again.ask('ls /var/lib/cloud/instances | wc -l'), /^1$/m);
    t.match(await again.ask('ip address show enp0s3'), new RegExp(`inet ${ip4}/24 [^]*inet6 ${ip6}/64`));
    t.match(await again.ask('cloud-init status --long'), /status: done/);
    await Promise.all([again.powerOff(), other.powerOff()]);
  });
});

interface Query {
  readonly instance_id: string;
  readonly ds: { readonly meta_data: { readonly uuid: string; readonly hostname: string } };
}

/** A Debian with a root shell on its console. */
class CloudGuest {
  readonly vm: CriContainer;
  readonly console: Attached;

  private constructor(vm: CriContainer, console: Attached) {
    this.vm = vm;
    this.console = console;
  }

  /** Resolves when cloud-init has done its work. */
  static async boot(t: Test, pod: CriPod, options: ContainerOptions): Promise<CloudGuest> {
    const from = Date.now();
    const vm = await pod.start(options);
    const console = await vm.attach();
    await console.output.until(PROMPT);
    t.comment(`booted in ${Date.now() - from} ms`);
    return new CloudGuest(vm, console);
  }

  async powerOff(): Promise<void> {
    // An interactive shell does not heed the signal that would end it.
    this.console.type('systemctl poweroff; exit');
    await this.vm.exited();
  }

  /** What a command says. */
  async ask(line: string): Promise<string> {
    const { output } = this.console;
    const from = output.text.length;
    this.console.type(line);
    // The console shows the line before the answer; the next prompt ends it.
    const [said] = await output.until(/\n[^]*cloud# $/, from);
    return said.slice(1).replaceAll('\r\n', '\n').replace(PROMPT, '');
  }
}

/** A Secret's volume, as kubelet would have written it. */
function secret(pod: CriPod, name: string, files: Readonly<Record<string, string | Buffer>>): Mount {
  const hostPath = join(pod.directory, 'volumes/kubernetes.io~secret', name);
  mkdirSync(hostPath, { recursive: true });
  for (const [file, content] of Object.entries(files)) writeFileSync(join(hostPath, file), content);
  return { containerPath: `/vmshim/guest-data/${name}`, hostPath, readonly: true };
}
