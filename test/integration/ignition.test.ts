/**
 * What Ignition makes of our drives: the distribution's own binary, told that it is on OpenStack, finds the drive by its
 * label, mounts it and takes the user data for its configuration. (It applies them only where SELinux is set up.)
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LinuxHost } from '../../src/host/linux-host.ts';
import { driveImage } from '../../src/storage/guest-data/drive-image.ts';
import { writeImage } from '../../src/storage/guest-data/write-image.ts';
import { tempDir } from '../support/temp-dir.ts';
import { unpackedPackage } from '../support/unpacked-package.ts';
import { full } from '../unit/storage/guest-data/sample-data.ts';

const FILE = { path: '/etc/greeting', contents: { source: 'data:,good%20day' } };
const USER_DATA = JSON.stringify({ ignition: { version: '3.3.0' }, storage: { files: [FILE] } });

/**
 * Ignition looks for the drive by its label where udev has links, and beside that for a metadata service, for which there is
 * no network here. Everything is mounted in namespaces that end with it.
 */
const RUN = `set -e
work=$1 drive=$2 ignition=$3
mkdir "$work/dev" "$work/root"
mount --rbind /dev "$work/dev"
mount -t tmpfs none /dev
for node in null urandom; do touch /dev/$node; mount --bind "$work/dev/$node" /dev/$node; done
# The machine has a journal there.
mount -t tmpfs none /run
mkdir -p /dev/disk/by-label
ln -s "$drive" /dev/disk/by-label/config-2
PATH="$work/bin:$PATH" "$ignition" --platform openstack --stage fetch --log-to-stdout --root "$work/root" \\
  --config-cache "$work/config.json" --state-file "$work/state" --neednet "$work/neednet"
`;

/** Kernels of machines that tests run on may know neither file system. Arguments: -o ro -t auto DRIVE DIRECTORY. */
const MOUNT = `#!/bin/sh
[ "$1 $2 $3 $4" = '-o ro -t auto' ] || exit 1
/bin/mount -t tmpfs none "$6"
`;
const READ = {
  'config-drive': 'exec mcopy -s -n -i "$5" \'::*\' "$6"\n',
  'config-drive-iso': 'exec bsdtar -xf "$5" -C "$6"\n',
} as const;

for (const kind of ['config-drive', 'config-drive-iso'] as const) {
  void t.test(`Ignition takes its configuration from a ${kind}`, (t) => {
    const work = tempDir(t);
    const drive = join(work, 'drive.img');
    const data = { ...full, kind, userData: Buffer.from(USER_DATA) };
    writeImage(new LinuxHost(), drive, driveImage(data))[Symbol.dispose]();
    mkdirSync(join(work, 'bin'));
    writeFileSync(join(work, 'bin/mount'), MOUNT + READ[kind], { mode: 0o755 });
    const program = join(unpackedPackage('ignition'), 'usr/lib/dracut/modules.d/30ignition/ignition');
    t.equal(label(drive), 'config-2');
    const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
    const said = execFileSync('unshare', ['--mount', '--net', 'sh', '-c', RUN, 'sh', work, drive, program], {
      encoding: 'utf8',
      env: { PATH },
    });
    t.match(said, /fetch passed/);
    t.match(JSON.parse(readFileSync(join(work, 'config.json'), 'utf8')), { storage: { files: [FILE] } });
    t.end();
  });
}

function label(drive: string): string {
  const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
  return execFileSync('blkid', ['-s', 'LABEL', '-o', 'value', drive], {
    encoding: 'utf8',
    env: { PATH },
  }).trim();
}
