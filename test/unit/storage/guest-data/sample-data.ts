import type { GuestData, GuestNic } from '../../../../src/storage/guest-data/guest-data.ts';

/** A card of a bridged network, with both families. */
export const bridged: GuestNic = {
  ifName: 'eth0',
  mac: '52:54:00:12:34:56',
  mtu: 1450,
  addresses: [
    { address: '10.88.0.7', prefixLength: 24, gateway: '10.88.0.1' },
    { address: 'fd00:88:0:1::7', prefixLength: 64, gateway: 'fd00:88:0:1::1' },
  ],
  routes: [
    { destination: '10.88.0.0/24', gateway: undefined },
    { destination: '0.0.0.0/0', gateway: '10.88.0.1' },
    { destination: '192.168.0.0/16', gateway: '10.88.0.254' },
    { destination: '::/0', gateway: 'fe80::1' },
  ],
  dns: { nameservers: ['10.96.0.10', 'fd00:96::a'], search: ['shop.svc.cluster.local', 'cluster.local'] },
};

/** A card of a routed network: the gateway is on no network of the card's. */
export const routed: GuestNic = {
  ...bridged,
  mac: '52:54:00:12:34:57',
  ifName: 'net1',
  addresses: [
    { address: '10.89.0.7', prefixLength: 32, gateway: '10.89.0.1' },
    { address: 'fd00:89::7', prefixLength: 128, gateway: 'fe80::1' },
  ],
  routes: [
    { destination: '10.89.0.1/32', gateway: undefined },
    { destination: '0.0.0.0/0', gateway: '10.89.0.1' },
    { destination: '::/0', gateway: 'fe80::1' },
  ],
};

/** A card of QEMU's own network, of which nobody knows the addresses. */
export const user: GuestNic = {
  ifName: 'eth0',
  mac: '52:54:00:12:34:58',
  mtu: undefined,
  addresses: [],
  routes: [],
  dns: { nameservers: [], search: [] },
};

/** What a bare container's guest is told that says nothing itself. */
export const plain: GuestData = {
  kind: 'config-drive',
  uuid: '5f0c8b1e-6f1c-4a2e-9d36-2f8a3c1d7e90',
  name: 'web-0',
  hostname: 'web-0',
  projectId: 'default',
  availabilityZone: 'nova',
  randomSeed: Uint8Array.from({ length: 512 }, (_, i) => i & 0xff),
  meta: {},
  sshKeys: [],
  userData: undefined,
  vendorData: undefined,
  networkData: undefined,
  network: 'static',
  nics: [user],
  devices: [],
  passwordHash: undefined,
  adminPassword: undefined,
  files: [],
  rootFiles: [],
};

/** Everything there is. */
export const full: GuestData = {
  ...plain,
  hostname: 'web-0.shop.example',
  projectId: 'shop',
  availabilityZone: 'zone-a',
  meta: { role: 'web', 'name with space': 'ünïcode' },
  sshKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPoo9bLxdKlQDBnr2BDaBlNzTFI0ZwWBlTpZD0tqbc5h me'],
  userData: Buffer.from('#cloud-config\r\nruncmd: [echo]\n'),
  vendorData: '#cloud-config\npackages: [less]\n',
  nics: [bridged, routed],
  devices: [
    { type: 'nic', bus: 'pci', address: '0000:00:03.0', mac: bridged.mac },
    { type: 'disk', bus: 'pci', address: '0000:00:02.0', serial: 'root', tags: [] },
    { type: 'disk', bus: 'scsi', address: '1:0:0:0', serial: 'LUN.7', tags: ['db'] },
  ],
  passwordHash: '$6$rounds=5000$salt$hashhashhash',
  adminPassword: 'clear text',
  files: [{ path: '/etc/cloud/environment', content: Buffer.from('GREETING="good day"\n') }],
  rootFiles: [{ path: 'unattend.xml', content: Buffer.from('<unattend/>\r\n') }],
};
