import { once } from 'node:events';
import { chmodSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { parseConfig } from '../../../src/core/config.ts';
import { parseVmSpec } from '../../../src/core/parse-spec.ts';
import { openFlags } from '../../../src/host/open-flags.ts';
import { ownFd } from '../../../src/host/owned-fd.ts';
import { planQemu, type QemuCommand } from '../../../src/qemu/plan.ts';
import type { FdRole } from '../../../src/qemu/plan-fds.ts';
import { QemuProcess } from '../../../src/qemu/process.ts';
import { cont } from '../../../src/qemu/qmp-commands.ts';
import { ExpectText } from '../../support/expect-text.ts';
import { guest } from '../../support/guest.ts';
import type { NetworkLab } from '../../support/network-lab.ts';
import { tempDir } from '../../support/temp-dir.ts';
import type { BenchScope } from '../bench-scope.ts';

/** QEMU has no rights, as a VM's; but one that opens its TAP by itself has to be root's. */
export const QEMU_UID = 65534;

/** A card on which a guest is to be reached. */
export interface BenchCard {
  readonly mac: string;
  readonly queues: number;
  /** Open queues, as the product hands them to QEMU; or the TAP of this name, which QEMU opens by itself. */
  readonly tap: { readonly fds: readonly number[] } | { readonly ifName: string };
  /** CIDR. */
  readonly address: string;
  /** What else the guest must do to reach the node. */
  readonly routes: readonly string[];
}

/**
 * The test guest with `net-server`, started by the product's own plan of QEMU. Nothing but the card differs between two
 * of them, and vhost-net is in none: raw and ours are to be alike.
 */
export async function startNetGuest(
  scope: BenchScope,
  { host, native }: NetworkLab,
  card: BenchCard,
  vcpus: number,
): Promise<void> {
  const directory = tempDir(scope);
  chmodSync(directory, 0o755);
  const { kernel, netInitrd, cmdline } = await guest();
  const annotations = {
    'vmshim.io/memory': '128Mi',
    'vmshim.io/cpus': String(vcpus),
    'vmshim.io/kernel': '/boot/vmlinuz',
    'vmshim.io/initrd': '/boot/initrd.img',
    'vmshim.io/cmdline': cmdline,
  };
  const config = parseConfig('accel = "tcg"\n', 'bench');
  const spec = parseVmSpec({
    ...{ id: 'bench', namespace: 'bench', spec: { annotations }, config },
    podNetwork: true,
  });
  const command = onCard(
    planQemu({
      ram: { kind: 'whole', host: undefined },
      spec,
      accel: 'tcg',
      machineType: 'q35',
      rootDisk: undefined,
      guestDrive: false,
      volumes: [],
      nics: [{ mac: card.mac, mtu: 1500, queues: card.queues, vhost: false }],
      firmware: { kind: 'bios' },
      aio: 'threads',
    }),
    card,
  );

  using owner = new DisposableStack();
  const sockets = { qmp: join(directory, 'qmp'), console: join(directory, 'console') };
  const listen = (path: string): number => owner.use(ownFd(native.listenUnix(path, 8))).fd;
  const open = (path: string): number => owner.use(host.open(path, openFlags.O_RDONLY)).fd;
  const fds = new Map<FdRole, number>([
    ['qmp', listen(sockets.qmp)],
    ['console', listen(sockets.console)],
    ['kernel', open(kernel)],
    ['initrd', open(netInitrd)],
  ]);
  if ('fds' in card.tap) card.tap.fds.forEach((fd, queue) => fds.set(`nic0-tap${queue}`, fd));
  const uid = 'fds' in card.tap ? QEMU_UID : 0;
  const qemu = await QemuProcess.start(host, {
    file: config.qemu,
    command,
    fds: command.fds.map((role) => fds.get(role) ?? -1),
    fdOwner: owner.move(),
    qmpPath: sockets.qmp,
    logPath: join(directory, 'qemu.log'),
    cwd: '/',
    uid,
    gid: uid,
    network: 'fds' in card.tap ? 'empty' : 'inherit',
  });
  scope.use(qemu);
  const serial = connect(sockets.console);
  scope.defer(() => void serial.destroy());
  await once(serial, 'connect');
  const console = new ExpectText(serial);
  await cont(qemu.qmp);
  await console.until(/vmguest: ready[^]*vmguest# /);
  serial.write(`net-server ${card.address}\n`);
  await console.until('net-server ready');
  if (card.routes.length === 0) return;
  serial.write(
    `${card.routes.map((route) => `ip route add ${route}`).join(' && ')} && echo "routes $((6))"\n`,
  );
  await console.until('routes 6');
}

/** The command line for a TAP that QEMU opens by its name; the queues are the last of the descriptors. */
function onCard(command: QemuCommand, { tap, queues }: BenchCard): QemuCommand {
  if ('fds' in tap) return command;
  const netdev = { type: 'tap', id: 'net0', ifname: tap.ifName, script: 'no', downscript: 'no', queues };
  return {
    args: command.args.map((arg) => (arg.startsWith('{"type":"tap"') ? JSON.stringify(netdev) : arg)),
    fds: command.fds.filter((role) => !role.startsWith('nic')),
  };
}
