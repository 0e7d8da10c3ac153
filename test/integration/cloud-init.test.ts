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
import { CloudVm } from '../support/cloud-vm.ts';
import { type ContainerOptions, CriPod } from '../support/cri-pod.ts';
import { type Login, SshUser } from '../support/ssh-login.ts';

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
  const options = (pod: CriPod, userData: string | Buffer, said: Said): ContainerOptions => ({
    image: image.name,
    stdin: true,
    annotations: { 'vmshim.io/memory': '512Mi', ...image.kernelBoot, ...said },
    mounts: [secret(pod, 'user', { 'user-data': userData })],
  });
  const user = new SshUser(t);
  const stranger = new SshUser(t);
  const keys = { 'vmshim.io/ssh-keys': user.publicKey };
  const said = { ...keys, 'vmshim.io/hostname': 'web-0.shop.example' };
  const [one, two] = await Promise.all([CriPod.run(t, node), CriPod.run(t, node, { name: 'web-1' })]);
  // Two at a time is what two CPUs boot as quickly as one.
  const [first, other] = await Promise.all([
    CloudVm.boot(t, one, options(one, USER_DATA, said)),
    CloudVm.boot(t, two, options(two, multipart(), { ...keys, 'vmshim.io/guest-data': 'nocloud' })),
  ]);
  const [ip4 = '', ip6 = ''] = await one.addresses();
  const others = await two.addresses();

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
    t.equal((await first.ask('cat /home/debian/.ssh/authorized_keys')).trim(), user.publicKey);
    t.equal(await first.ask('cat /etc/from-user-data; echo; cat /var/lib/ran'), 'two words\nonce\n');
    t.equal(await first.ask('cat /etc/cloud/environment'), 'KUBERNETES_SERVICE_HOST=10.96.0.1\n');
    t.end();
  });

  await t.test('and its card has the pod’s addresses without asking anybody', async (t) => {
    await expectAddresses(t, first, 'enp0s3', [ip4, ip6]);
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

  await t.test('NoCloud says the same, with user data of 10 MiB in parts', async (t) => {
    t.match(await other.ask('cat /run/cloud-init/ds-identify.log'), 'Found single datasource: NoCloud');
    t.match(
      await other.ask('cloud-init status --long'),
      /status: done[^]*DataSourceNoCloud \[seed=\/dev\/vdb\]\[dsmode=net\]/,
    );
    const instance = (await other.ask('cloud-init query instance_id')).trim();
    t.match(await other.ask('cat /sys/class/dmi/id/product_uuid'), instance, 'the SMBIOS UUID');
    t.match(await other.ask('cat /var/lib/ran'), /^script of 10\d{6} bytes\nonce\n$/);
    t.equal((await other.ask('hostname')).trim(), 'web-1');
    t.equal(await other.ask('cat /etc/cloud/environment'), 'KUBERNETES_SERVICE_HOST=10.96.0.1\n');
    t.match(await other.ask('blkid -p /dev/vdb'), / LABEL="cidata" .*TYPE="vfat"/);
    await expectAddresses(t, other, 'eth0', others);
    t.end();
  });

  await t.test('who has the key logs in, by either address, and nobody else', async (t) => {
    const hostKey = (guest: CloudVm): Promise<string> => guest.ask('cat /etc/ssh/ssh_host_ed25519_key.pub');
    const [firstKey, otherKey] = await Promise.all([hostKey(first), hostKey(other)]);
    const login = (who: SshUser, address: string, hostKey: string): Promise<Login> =>
      who.run(node.network, { address, hostKey, user: 'debian' }, 'sudo id -un; hostname');
    const [let4, let6, refused] = await Promise.all([
      login(user, ip4, firstKey),
      login(user, others[1] ?? '', otherKey),
      login(stranger, ip4, firstKey),
    ]);
    t.same(let4, { said: 'root\nweb-0', status: 0 });
    t.same(let6, { said: 'root\nweb-1', status: 0 });
    t.equal(refused.status, 255);
    t.match(refused.said, /Permission denied \(publickey/);
  });

  await t.test('what is made anew of the same pod is the same instance', async (t) => {
    const id = await first.ask('cat /var/lib/cloud/data/instance-id');
    const hostKey = await first.ask('cat /etc/ssh/ssh_host_ed25519_key.pub');
    await Promise.all([first.powerOff(), other.powerOff()]);
    const routed = await CriPod.run(t, node, { name: 'web-2', handler: 'routed' });
    const changed = USER_DATA.replaceAll('once', 'twice').replace('two words', 'other words');
    const iso = { ...keys, 'vmshim.io/guest-data': 'config-drive-iso' };
    const [again, third] = await Promise.all([
      CloudVm.boot(t, one, { ...options(one, changed, said), attempt: 1 }),
      CloudVm.boot(t, routed, options(routed, changed, iso)),
    ]);
    t.equal(await again.ask('cat /var/lib/cloud/data/instance-id'), id);
    t.equal(await again.ask('cat /etc/from-user-data; echo; cat /var/lib/ran'), 'two words\nonce\n');
    t.match(await again.ask('ls /var/lib/cloud/instances | wc -l'), /^1$/m);
    t.equal(await again.ask('cat /etc/ssh/ssh_host_ed25519_key.pub'), hostKey);
    t.match(await again.ask('ip address show enp0s3'), new RegExp(`inet ${ip4}/24 [^]*inet6 ${ip6}/64`));
    t.match(await again.ask('cloud-init status --long'), /status: done/);

    await t.test('and another pod has another one, from ISO 9660, by a gateway on no network', async (t) => {
      t.match(await third.ask('cat /run/cloud-init/ds-identify.log'), 'Found single datasource: ConfigDrive');
      t.match(
        await third.ask('cloud-init status --long'),
        /status: done[^]*DataSourceConfigDrive \[net,ver=2\]\[source=\/dev\/vdb\]/,
      );
      t.match(await third.ask('blkid -p /dev/vdb'), / LABEL="config-2" .*TYPE="iso9660"/);
      t.not(await third.ask('cat /var/lib/cloud/data/instance-id'), id);
      t.equal((await third.ask('cat /home/debian/.ssh/authorized_keys')).trim(), user.publicKey);
      t.equal(await third.ask('cat /etc/from-user-data; echo; cat /var/lib/ran'), 'other words\ntwice\n');
      t.equal((await third.ask('hostname')).trim(), 'web-2');
      const [third4 = '', third6 = ''] = await routed.addresses();
      const link = await third.ask('ip address show enp0s3');
      t.match(link, new RegExp(`inet ${third4}/32 metric 100 [^]*inet6 ${third6}/128 scope global`));
      t.match(await third.ask('ip route'), /^default via 10\.89\.0\.1 dev enp0s3 proto dhcp/m);
      t.match(await third.ask('ip -6 route'), /^default via fe80::1 dev enp0s3 proto static/m);
      for (const ip of ['10.88.0.1', 'fd00:88:0:1::1', ip4, ip6])
        t.match(await third.ask(`busybox ping -c 3 -W 20 ${ip}`), /[1-9] packets received/, `reaches ${ip}`);
      t.end();
    });
    await Promise.all([again.powerOff(), third.powerOff()]);
  });
});

/** What the drive says of a card on the bridge is set for good, and nothing of it is a lease's. */
async function expectAddresses(
  t: Test,
  guest: CloudVm,
  card: string,
  [ip4 = '', ip6 = '']: readonly string[],
): Promise<void> {
  const link = await guest.ask(`ip address show ${card}`);
  t.match(link, new RegExp(`mtu 1400 [^]*inet ${ip4}/24 [^]*inet6 ${ip6}/64 scope global`));
  t.notMatch(link, / metric \d/, 'not from a lease');
  t.match(
    await guest.ask('ip route'),
    new RegExp(`^default via 10\\.88\\.0\\.1 dev ${card} proto static`, 'm'),
  );
  t.match(
    await guest.ask('ip -6 route'),
    // NoCloud's network configuration leaves the node's router advertisements on: the kernel puts both next hops into one route.
    new RegExp(`^default (?:via|proto static [^]*nexthop via) fd00:88:0:1::1 dev ${card}`, 'm'),
  );
  t.match(
    await guest.ask(`resolvectl dns ${card}; resolvectl domain ${card}`),
    /10\.96\.0\.10\n[^]*shop\.svc\.cluster\.local/,
  );
}

type Said = Readonly<Record<string, string>>;

interface Query {
  readonly instance_id: string;
  readonly ds: { readonly meta_data: { readonly uuid: string; readonly hostname: string } };
}

/** A Secret's volume, as kubelet would have written it. */
function secret(pod: CriPod, name: string, files: Readonly<Record<string, string | Buffer>>): Mount {
  const hostPath = join(pod.directory, 'volumes/kubernetes.io~secret', name);
  mkdirSync(hostPath, { recursive: true });
  for (const [file, content] of Object.entries(files)) writeFileSync(join(hostPath, file), content);
  return { containerPath: `/vmshim/guest-data/${name}`, hostPath, readonly: true };
}
