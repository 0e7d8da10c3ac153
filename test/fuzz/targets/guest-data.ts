import { parseConfig } from '../../../src/core/config.ts';
import { parseVmSpec } from '../../../src/core/parse-spec.ts';
import { driveImage } from '../../../src/storage/guest-data/drive-image.ts';
import { mergeGuestData } from '../../../src/storage/guest-data/merge-guest-data.ts';
import type { VolumeFile } from '../../../src/storage/guest-data/read-volume.ts';
import { parseVolumeData } from '../../../src/storage/guest-data/volume-data.ts';
import type { Random } from '../../support/chaos/random.ts';
import { bridged, routed, user } from '../../unit/storage/guest-data/sample-data.ts';
import { anyText, mutateBytes, mutateText } from '../mutate.ts';
import { type Json, mutateJson, textOf } from '../mutate-json.ts';
import { type FuzzTarget, showText, Unsound } from '../target.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPoo9bLxdKlQDBnr2BDaBlNzTFI0ZwWBlTpZD0tqbc5h me';

const FILES: readonly (readonly [name: string, content: string])[] = [
  ['user-data', '#cloud-config\r\nusers: [{name: a}]\nruncmd:\n- [echo, "x"]\n'],
  ['userdata', '{"ignition": {"version": "3.4.0"}}'],
  ['vendor-data', '#cloud-config\npackages: [less]\n'],
  ['vendor_data.json', '{"cloud-init": ["#cloud-config\\n{}"], "other": {"deep": [1, {"a": null}]}}'],
  ['network-data', '{"links": [{"id": "l", "type": "phy"}], "networks": [], "services": []}'],
  ['network-config', 'version: 2\nethernets:\n  eth0: {dhcp4: true}\n'],
  ['ssh-keys', `# mine\n${KEY}\n`],
  ['meta', '{"role": "web", "zone": "a"}'],
  ['password-hash', '$6$salt$0123456789abcdefghijklmnop'],
  ['admin-password', 'Pa55w0rd'],
  ['files', '{"/etc/motd": "hello\\n", "/a/b": ""}'],
  ['unattend.xml', '<unattend/>'],
];

const config = parseConfig('', 'fuzz');

/** ConfigMaps and Secrets for the guest, as far as the bytes of its drive. */
export function guestDataTarget(): FuzzTarget {
  return {
    name: 'guest-data',
    about: 'user, vendor, network and meta data of volumes and annotations, as far as the drive',
    make: (random) => {
      const files = Array.from({ length: random.below(4) }, () => volumeFile(random));
      const annotations = Object.fromEntries(
        Array.from({ length: random.below(3) }, () => random.pick(SAID)(random)),
      ) as Json;
      const process: Json = { env: [`A=${anyText(random)}`, anyText(random)] };
      const nics = random.pick([[user], [bridged], [bridged, routed], []]);
      const podNetwork = random.below(2) === 0;
      return {
        show: () =>
          showText(
            textOf({
              annotations,
              process,
              files: files.map(({ name, content }) => [name, content.toString('latin1')]),
            }),
          ),
        run: () => {
          const { guestData } = parseVmSpec({
            id: 'c1',
            namespace: 'default',
            spec: { annotations, process },
            config,
            podNetwork,
          });
          const { kind } = guestData;
          const volumes = parseVolumeData(files);
          if (kind === 'none') return;
          const { size, parts } = driveImage(
            mergeGuestData({ ...guestData, kind }, volumes, {
              uuid: '5f0c8b1e-6f1c-4a2e-9d36-2f8a3c1d7e90',
              name: 'c1',
              randomSeed: new Uint8Array(512),
              nics,
              devices: [{ type: 'disk', bus: 'pci', address: '0000:00:02.0', serial: 'root', tags: [] }],
            }),
          );
          const end = Math.max(...parts.map(({ offset, bytes }) => offset + bytes.length));
          if (end > size) throw new Unsound(`a drive of ${size} bytes with something at ${end}`);
        },
      };
    },
  };
}

const SAID: readonly ((random: Random) => [string, string])[] = [
  (random) => [
    'vmshim.io/guest-data',
    random.pick(['config-drive', 'config-drive-iso', 'nocloud', 'none', 'x']),
  ],
  (random) => ['vmshim.io/user-data', mutateText(random, '#cloud-config\n{}\n')],
  (random) => ['vmshim.io/user-data-base64', mutateText(random, 'I2Nsb3VkLWNvbmZpZwo=')],
  (random) => ['vmshim.io/vendor-data', textOf(mutateJson(random, { 'cloud-init': 'x' }))],
  (random) => ['vmshim.io/meta', textOf(mutateJson(random, { role: 'web' }))],
  (random) => ['vmshim.io/ssh-keys', mutateText(random, KEY)],
  (random) => ['vmshim.io/hostname', mutateText(random, 'web-1.shop.example')],
  (random) => ['vmshim.io/guest-network', random.pick(['static', 'dhcp', ''])],
];

function volumeFile(random: Random): VolumeFile {
  const [known, sample] = random.pick(FILES);
  const name = random.below(30) === 0 ? mutateText(random, known) : known;
  return {
    name,
    path: `/vmshim/guest-data/${name}`,
    content: content(random, sample),
    public: random.below(4) === 0,
  };
}

function content(random: Random, sample: string): Buffer {
  switch (random.below(5)) {
    case 0:
      return Buffer.from(sample);
    case 1:
      return mutateBytes(random, Buffer.from(sample));
    case 2:
      return Buffer.from(mutateText(random, sample));
    default:
      return Buffer.from(
        sample.startsWith('{') ? textOf(mutateJson(random, JSON.parse(sample) as Json)) : sample,
      );
  }
}
