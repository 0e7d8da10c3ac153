import type { NodeEyes } from './diagnose-node.ts';

/** A CPU for each NUMA node. */
export const MINIMAL_CPUS = 2;
/** For the node itself and one small guest. */
export const MINIMAL_MIB = 1024;

/** What a caller may choose about the node. */
export interface NodeShape {
  /** At least `MINIMAL_CPUS`: the first half, rounded up, is NUMA node 0's, and so is `SPARE_CPU`, which comes besides. */
  readonly cpus: number;
  /** At least `MINIMAL_MIB`. Two thirds are NUMA node 0's. */
  readonly memoryMib: number;
  /** Who is PID 1 when the job runs; without a word scripts/node/start-node. */
  readonly init?: 'systemd' | undefined;
  /** The TSC's rate, which the node has to measure otherwise. */
  readonly tscKhz?: number | undefined;
}

/** `run`: the job's output on ports, nobody at the console. `shell`: our terminal is the node's console. */
export type NodeMode =
  | { readonly kind: 'run'; readonly ports: readonly NodePort[]; readonly eyes: NodeEyes }
  | { readonly kind: 'shell' };

/** A virtio-serial port of the node, `/dev/virtio-ports/NAME` inside, and the socket that QEMU connects to outside. */
export interface NodePort {
  readonly name: string;
  readonly socket: string;
}

/** Files of the node; none is ever written to. */
export interface NodeFiles {
  /** The command that is QEMU, to which its arguments are added. */
  readonly qemu: readonly string[];
  readonly kernel: string;
  readonly initrd: string;
  readonly root: string;
  readonly tree: string;
  readonly modules: string;
}

/**
 * No guest may run on the emulator's first CPU, so start-node takes it out of every program's cpuset. Whichever CPU restores the FPU's
 * state, at each switch of tasks, has QEMU clear IGNNE# of its *first* CPU: a read and a write, without a lock, of the word that also
 * says whether that CPU takes interrupts (GIF) and is in a guest with nested paging (`cpu_clear_ignne` in `target/i386/tcg`; QEMU 7.2
 * and later). Now and then the node's kernel went on under a guest's page tables, and guest or node crashed: CONTRIBUTING.md.
 */
const SPARE_CPU = 0;

/** As a cloud's node of two sockets has it; ACPI SLIT, where 10 is local. */
const DISTANCE = 21;

/**
 * Arguments of the QEMU that is the node. TCG on purpose, whatever the machine has: its emulation of AMD's SVM with
 * nested paging gives the node a /dev/kvm of its own everywhere, and its guests a tenth of the time TCG would take.
 */
export function planNode(
  mode: NodeMode,
  { cpus, memoryMib, init, tscKhz }: NodeShape,
  files: NodeFiles,
): string[] {
  const last0 = SPARE_CPU + Math.ceil(cpus / 2);
  const memory0 = Math.ceil((memoryMib * 2) / 3);
  const disks = [files.root, files.tree, files.modules];
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-machine', 'q35,vmport=off,smbus=off,sata=off,usb=off', '-accel', 'tcg,thread=multi,tb-size=512'],
    ...['-cpu', 'qemu64,+svm,+npt', '-smp', String(1 + cpus), '-m', `${memoryMib}M`],
    ...numaNode(0, memory0, `${SPARE_CPU}-${last0}`),
    ...numaNode(1, memoryMib - memory0, `${last0 + 1}-${cpus}`),
    ...['-numa', `dist,src=0,dst=1,val=${DISTANCE}`],
    ...['-kernel', files.kernel, '-initrd', files.initrd, '-append', commandLine(mode, init, tscKhz)],
    ...disks.flatMap((file, index) => disk(index, file)),
    ...['-device', 'virtio-rng-pci', '-device', 'virtio-serial-pci'],
    ...(mode.kind === 'run'
      ? [...watched(mode.eyes), ...mode.ports.flatMap(port)]
      : ['-serial', 'mon:stdio']),
  ];
}

function numaNode(id: number, mib: number, cpus: string): string[] {
  return [
    ...['-object', `memory-backend-ram,id=memory${id},size=${mib}M`],
    ...['-numa', `node,nodeid=${id},memdev=memory${id},cpus=${cpus}`],
  ];
}

/** In the order of /dev/vda, vdb …; what is written to the first goes into a file without a name. */
function disk(index: number, file: string): string[] {
  const writes = index === 0 ? 'snapshot=on' : 'readonly=on';
  const path = file.replaceAll(',', ',,');
  return [
    ...['-drive', `if=none,id=disk${index},file=${path},format=raw,cache=unsafe,${writes}`],
    ...['-device', `virtio-blk-pci,drive=disk${index}`],
  ];
}

/** A console and a monitor that nobody is at until something is wrong. */
function watched({ monitor, console, consoleLog }: NodeEyes): string[] {
  return [
    ...['-chardev', `socket,id=console,path=${console},server=on,wait=off,logfile=${consoleLog}`],
    ...['-serial', 'chardev:console'],
    ...['-qmp', `unix:${monitor},server=on,wait=off`],
  ];
}

function port({ name, socket }: NodePort): string[] {
  return [
    ...['-chardev', `socket,id=${name},path=${socket}`],
    ...['-device', `virtserialport,chardev=${name},name=${name}`],
  ];
}

/** `quiet` saves a second of emulated serial port; warnings still come. */
function commandLine(mode: NodeMode, init: NodeShape['init'], tscKhz: number | undefined): string {
  return [
    'console=ttyS0 quiet panic=-1 net.ifnames=0',
    'nokaslr no_timer_check mitigations=off tsc=reliable',
    ...(tscKhz === undefined ? [] : [`tsc_early_khz=${tscKhz}`]),
    // A vCPU that waits by polling keeps the emulated CPU from those it waits for.
    'kvm.halt_poll_ns=0',
    // It takes pages away from guests to see who touches them: on an emulated CPU it left guests no time to run.
    'numa_balancing=disable',
    // For diagnoseNode.
    'sysrq_always_enabled unknown_nmi_panic',
    `testbed=${mode.kind}`,
    ...(init === undefined ? [] : [`testbed.init=${init}`]),
  ].join(' ');
}
