/**
 * What cloud-init makes of our drives: its own detection and its own parsers, of the distribution's package, on files that
 * mtools and bsdtar read out of the images.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { driveImage } from '../../src/storage/guest-data/drive-image.ts';
import type { GuestData, GuestNic } from '../../src/storage/guest-data/guest-data.ts';
import { openstackFiles } from '../../src/storage/guest-data/openstack-files.ts';
import { writeImage } from '../../src/storage/guest-data/write-image.ts';
import { tempDir } from '../support/temp-dir.ts';
import { unpackedPackage } from '../support/unpacked-package.ts';
import { bridged, full, routed } from '../unit/storage/guest-data/sample-data.ts';

/** Debian's own Python has the modules that cloud-init depends on. */
const PYTHON = '/usr/bin/python3';
const system = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;

const READ_CONFIG_DRIVE = `
import json, sys
from cloudinit.sources.DataSourceConfigDrive import read_config_drive
from cloudinit.sources import convert_vendordata
from cloudinit.sources.helpers.openstack import convert_net_json
from cloudinit.net.network_state import parse_net_config_data
read = read_config_drive(sys.argv[1])
macs = {"${bridged.mac}": "enp0s3", "${routed.mac}": "enp0s8"}
config = convert_net_json(read["networkdata"], known_macs=macs)
parse_net_config_data(config)
print(json.dumps({
  "version": read["version"], "metadata": {k: v for k, v in read["metadata"].items() if k != "random_seed"},
  "seed": len(read["metadata"]["random_seed"]), "userdata": read["userdata"].decode(), "files": {k: v.decode() for k, v in read["files"].items()},
  "vendordata": convert_vendordata(read["vendordata"]), "vendordata2": convert_vendordata(read["vendordata2"]), "network": config,
}))
`;

const READ_NOCLOUD = `
import json, sys
from cloudinit import util, user_data
from cloudinit.net.network_state import parse_net_config_data
from cloudinit.net.netplan import Renderer
read = util.pathprefix2dict(sys.argv[1] + "/", required=["user-data", "meta-data"], optional=["vendor-data", "network-config"])
config = util.load_yaml(read["network-config"])
state = parse_net_config_data(config)
vendor = util.message_from_string(read["vendor-data"].decode())
print(json.dumps({
  "meta": util.load_yaml(read["meta-data"]), "routes": len(list(state.iter_routes())),
  "interfaces": [i["name"] for i in state.iter_interfaces()], "netplan": Renderer({})._render_content(state),
  "vendor": [part.get_payload(decode=True).decode() for part in vendor.walk() if not part.is_multipart()],
}))
`;

const RENDER_NETWORK_DATA = `
import json, sys
from cloudinit.sources.helpers.openstack import convert_net_json
from cloudinit.net.network_state import parse_net_config_data
from cloudinit.net.netplan import Renderer
config = convert_net_json(json.loads(sys.argv[1]), known_macs={"${bridged.mac}": "enp0s3", "${routed.mac}": "enp0s3"})
print(json.dumps(Renderer({})._render_content(parse_net_config_data(config))))
`;

function python(script: string, ...args: string[]): unknown {
  const env = {
    PYTHONPATH: join(unpackedPackage('cloud-init'), 'usr/lib/python3/dist-packages'),
    PYTHONDONTWRITEBYTECODE: '1',
    PATH: system,
  };
  return JSON.parse(execFileSync(PYTHON, ['-c', script, ...args], { encoding: 'utf8', env }));
}

function write(directory: string, data: GuestData): string {
  const path = join(directory, `${data.kind}.img`);
  writeImage(new LinuxHost(), path, driveImage(data))[Symbol.dispose]();
  return path;
}

function unpack(directory: string, data: GuestData): string {
  const image = write(directory, data);
  const tree = join(directory, data.kind);
  mkdirSync(tree);
  if (data.kind === 'config-drive-iso') execFileSync('bsdtar', ['-xf', image, '-C', tree]);
  else execFileSync('mcopy', ['-s', '-n', '-i', image, '::*', tree]);
  return tree;
}

for (const kind of ['config-drive', 'config-drive-iso'] as const) {
  void t.test(`cloud-init reads all of a ${kind}`, (t) => {
    const read = python(READ_CONFIG_DRIVE, unpack(tempDir(t), { ...full, kind }));
    t.match(read, {
      version: 2,
      metadata: {
        uuid: full.uuid,
        hostname: full.hostname,
        'local-hostname': full.hostname,
        'instance-id': full.uuid,
        public_keys: { 'key-0': full.sshKeys[0] },
        meta: full.meta,
        availability_zone: 'zone-a',
      },
      seed: 512,
      userdata: '#cloud-config\r\nruncmd: [echo]\n',
      files: { '/etc/cloud/environment': 'GREETING="good day"\n' },
      vendordata: ['#cloud-config\npackages: [less]\n', /"password": "\$6/],
      vendordata2: null,
    });
    const { network } = read as { network: { config: Record<string, unknown>[] } };
    t.match(network.config, [
      {
        name: 'enp0s3',
        type: 'physical',
        mac_address: bridged.mac,
        mtu: 1450,
        subnets: [
          {
            type: 'static',
            address: '10.88.0.7',
            netmask: '255.255.255.0',
            dns_search: ['shop.svc.cluster.local', 'cluster.local'],
            routes: [
              { network: '0.0.0.0', netmask: '0.0.0.0', gateway: '10.88.0.1' },
              { network: '192.168.0.0', netmask: '255.255.0.0', gateway: '10.88.0.254' },
            ],
          },
          {
            type: 'static6',
            address: 'fd00:88:0:1::7',
            netmask: 'ffff:ffff:ffff:ffff::',
            routes: [{ network: '::', netmask: '::', gateway: 'fe80::1' }],
          },
        ],
      },
      { name: 'enp0s8', subnets: [{ type: 'dhcp4' }, { type: 'static6', address: 'fd00:89::7' }] },
      { type: 'nameserver', address: '10.96.0.10' },
      { type: 'nameserver', address: 'fd00:96::a' },
    ]);
    t.end();
  });
}

function netplanOf(nic: GuestNic): string {
  const files = openstackFiles({ ...full, nics: [nic] });
  const document = files.find(({ path }) => path === 'openstack/latest/network_data.json');
  return python(RENDER_NETWORK_DATA, Buffer.from(document?.content ?? []).toString()) as string;
}

void t.test('cloud-init gives netplan name servers and search domains, each once', (t) => {
  const nameservers = ['10.96.0.10', 'fd00:96::a'];
  const search = ['shop.svc.cluster.local', 'cluster.local'];
  const all = [...nameservers, ...search];
  for (const [nic, said] of [
    [bridged, all],
    [routed, all],
    [{ ...bridged, dns: { nameservers, search: [] } }, nameservers],
    [{ ...bridged, dns: { nameservers: [], search } }, search],
  ] as const) {
    const lines = netplanOf(nic)
      .split('\n')
      .map((line) => line.trim().replace('- ', ''));
    for (const text of all) {
      const times = lines.filter((line) => line === text).length;
      t.equal(times, said.includes(text) ? 1 : 0, `${text} of ${nic.ifName}`);
    }
  }
  t.end();
});

void t.test(
  'why a card with a gateway beside its network is left to DHCP: cloud-init loses that it is on the link',
  (t) => {
    // As Nova would write it for such a subnet: a route to the gateway, then one through it.
    const routes = [
      { network: '10.89.0.1', netmask: '255.255.255.255', gateway: '0.0.0.0' },
      { network: '0.0.0.0', netmask: '0.0.0.0', gateway: '10.89.0.1' },
    ];
    const network = { id: 'n', link: 'l', type: 'ipv4', ip_address: '10.89.0.7', netmask: '255.255.255.255' };
    const links = [{ id: 'l', type: 'phy', ethernet_mac_address: routed.mac, mtu: null }];
    const said = { links, networks: [{ ...network, routes }], services: [] };
    const netplan = python(RENDER_NETWORK_DATA, JSON.stringify(said));
    t.match(netplan, /addresses:\n\s+- 10\.89\.0\.7\/32/);
    t.match(netplan, /to: 0\.0\.0\.0\/0\n\s+via: 10\.89\.0\.1/);
    t.notMatch(netplan, /on-link|scope: link/);
    const rendered = netplanOf(routed);
    t.match(rendered, /addresses:\n\s+- fd00:89::7\/128\n\s+dhcp4: true/);
    t.match(rendered, /to: ::\/0\n\s+via: fe80::1/, 'a link-local gateway needs no such word');
    t.end();
  },
);

void t.test('cloud-init reads all of a NoCloud drive', (t) => {
  const read = python(READ_NOCLOUD, unpack(tempDir(t), { ...full, kind: 'nocloud' }));
  t.match(read, {
    meta: { 'instance-id': full.uuid, 'local-hostname': full.hostname, 'public-keys': full.sshKeys },
    interfaces: ['eth0', 'net1'],
    netplan: /10\.88\.0\.7\/24[^]*fd00:88:0:1::7\/64[^]*net1:[^]*dhcp4: true/,
    vendor: ['#cloud-config\npackages: [less]\n', /"password"/, /"write_files"/],
  });
  t.end();
});

void t.test('cloud-init’s detection knows each drive by its label', (t) => {
  const directory = tempDir(t);
  const found = {
    'config-drive': 'ConfigDrive',
    'config-drive-iso': 'ConfigDrive',
    nocloud: 'NoCloud',
  } as const;
  for (const [kind, source] of Object.entries(found)) {
    const image = write(directory, { ...full, kind: kind as keyof typeof found });
    const root = join(directory, `root-${kind}`);
    const bin = join(root, 'bin');
    mkdirSync(bin, { recursive: true });
    for (const part of ['etc/cloud', 'run', 'sys/class/dmi/id', 'proc/1', 'dev'])
      mkdirSync(join(root, part), { recursive: true });
    writeFileSync(join(root, 'proc/cmdline'), '');
    // A machine that is a VM, whose one disk is our image.
    const programs = {
      blkid: `echo DEVNAME=/dev/vdb\nexec /sbin/blkid -p -o export '${image}'`,
      'systemd-detect-virt': 'echo kvm',
    };
    for (const [name, script] of Object.entries(programs))
      writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const env = { PATH: `${bin}:${system}`, PATH_ROOT: root, DI_LOG: 'stderr', DEBUG_LEVEL: '0' };
    const script = join(unpackedPackage('cloud-init'), 'usr/lib/cloud-init/ds-identify');
    const said = execFileSync('sh', [script, '--force'], {
      encoding: 'utf8',
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const config = readFileSync(join(root, 'run/cloud-init/cloud.cfg'), 'utf8');
    t.match(config, new RegExp(`datasource_list: \\[ ${source}, None \\]`), `${kind}: ${said}`);
  }
  t.end();
});
