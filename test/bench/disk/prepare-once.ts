import { randomUUID } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { parseConfig } from '../../../src/core/config.ts';
import { parseVmSpec } from '../../../src/core/parse-spec.ts';
import { textLogger } from '../../../src/core/logger.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { loadNative } from '../../../src/host/native.ts';
import { openBootFiles } from '../../../src/vm/boot-files.ts';
import { makeGuestDrive } from '../../../src/vm/guest-drive.ts';
import { Timeline } from '../../../src/vm/timeline.ts';

/**
 * What a shim does for the disks of its one VM, once, as the first and only time in its process: finds the image's disk,
 * makes the overlay and the guest data drive. Prints the two times in milliseconds as JSON.
 * Arguments: the directory of an unpacked image, and that of a node, which has run pods before or is new.
 */
const [rootfs = '', directory = ''] = process.argv.slice(2);
const config = parseConfig(
  `accel = "tcg"\nstate_dir = "${directory}/vms"\ndata_dir = "${directory}/data"\n`,
  'bench',
);
const runDir = mkdtempSync(join(directory, 'run-'));
const host = new LinuxHost();
const native = loadNative();
// A pod's: its disk goes to the data directory.
const annotations = {
  'io.kubernetes.cri.container-type': 'container',
  'io.kubernetes.cri.sandbox-id': 'bench',
  'io.kubernetes.cri.sandbox-uid': randomUUID(),
  'io.kubernetes.cri.sandbox-name': 'bench',
  'io.kubernetes.cri.sandbox-namespace': 'bench',
  'io.kubernetes.cri.container-name': 'vm',
  'vmshim.io/network': 'none',
};
const spec = parseVmSpec({ id: 'bench', namespace: 'k8s.io', spec: { annotations }, config });

const began = performance.now();
using files = await openBootFiles(
  { host, native, log: textLogger(() => undefined, { debug: false }) },
  {
    spec,
    config,
    bundle: directory,
    rootfs: { path: rootfs, mounts: [] },
    netns: undefined,
    resolvConf: undefined,
    shimSocket: '',
    timeline: new Timeline(),
  },
  () => undefined,
  new AbortController().signal,
);
const disk = performance.now();
using _drive = await makeGuestDrive(
  host,
  spec,
  { runDir, dataDir: config.dataDir, hasRootDisk: files.disk !== undefined, volumes: [] },
  [],
);
const drive = performance.now();
process.stdout.write(JSON.stringify({ disk: disk - began, drive: drive - disk }));
