/**
 * The evidence that the test guest itself is right, by plain QEMU under TCG, without any of our own code in between:
 * when another integration test fails, the guest is not the suspect.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex, Readable, Writable } from 'node:stream';
import t, { type Test } from 'tap';
import { guest } from '../support/guest.ts';

/** Milliseconds. Only a hang reaches it: boots take 2 to 6 s, and machines differ tenfold. */
const patience = 600_000;

const ovmf = '/usr/share/OVMF';
const { kernel, initrd, qcow2, cmdline } = await guest();

const disk = ['-drive', `if=none,id=root,file=${qcow2},format=qcow2,snapshot=on`];
const direct = (options = ''): string[] => [
  ...['-kernel', kernel, '-initrd', initrd, '-append', `${cmdline} ${options}`],
];

/** Text that arrives in pieces, read by waiting for what should come next. */
class Transcript {
  #text = '';
  #read = 0;
  #ended: string | undefined;
  #news = Promise.withResolvers<undefined>();

  constructor(stream: Readable) {
    stream.on('data', (chunk: Buffer) => {
      // A terminal sends CR LF.
      this.#text += chunk.toString('latin1').replaceAll('\r', '');
      this.#wake();
    });
    stream.on('end', () => this.#end('the stream ended'));
    stream.on('error', (error) => this.#end(error.message));
  }

  /** Resolves to the first match behind the previous one. */
  async next(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = setTimeout(() => this.#end(`${patience} ms have passed`), patience);
    try {
      for (;;) {
        const found = pattern.exec(this.#text.slice(this.#read));
        if (found !== null) {
          this.#read += found.index + found[0].length;
          return found;
        }
        if (this.#ended !== undefined) {
          throw new Error(`${this.#ended} without ${String(pattern)} behind …${this.#text.slice(-1500)}`);
        }
        await this.#news.promise;
      }
    } finally {
      clearTimeout(deadline);
    }
  }

  #end(why: string): void {
    this.#ended ??= why;
    this.#wake();
  }

  #wake(): void {
    this.#news.resolve(undefined);
    this.#news = Promise.withResolvers();
  }
}

class Machine {
  readonly console: Transcript;
  readonly qmp: Transcript;
  /** The exit status of QEMU, or null after a signal. */
  readonly exit: Promise<number | null>;
  readonly #keyboard: Writable;
  readonly #monitor: Duplex;

  constructor(child: ChildProcess, keyboard: Writable, screen: Readable, monitor: Duplex) {
    this.console = new Transcript(screen);
    this.qmp = new Transcript(monitor);
    this.exit = once(child, 'close').then(([code]) => code as number | null);
    this.#keyboard = keyboard;
    this.#monitor = monitor;
  }

  /** Types a line at the next prompt. */
  async type(line: string): Promise<void> {
    await this.console.next(/^vmguest# $/m);
    this.#keyboard.write(`${line}\n`);
  }

  execute(command: string): void {
    this.#monitor.write(`${JSON.stringify({ execute: command })}\n`);
  }
}

/** Starts QEMU with its serial port on stdio and QMP on descriptor 3. It is gone when the test is. */
function boot(t: Test, args: readonly string[]): Machine {
  const child = spawn(
    'qemu-system-x86_64',
    [
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-accel', 'tcg'],
      ...['-chardev', 'stdio,id=serial,signal=off', '-serial', 'chardev:serial'],
      ...['-chardev', 'socket,id=qmp,fd=3', '-mon', 'chardev=qmp,mode=control'],
      ...args,
    ],
    { stdio: ['pipe', 'pipe', 'inherit', 'pipe'] },
  );
  const vm = new Machine(child, child.stdin!, child.stdout!, child.stdio[3] as Duplex);
  const kill = (): void => void child.kill('SIGKILL');
  // For a test file that is ended from outside; a teardown would not run then.
  process.once('exit', kill);
  t.teardown(async () => {
    kill();
    await vm.exit;
    process.off('exit', kill);
  });
  vm.execute('qmp_capabilities');
  return vm;
}

void t.test('boots from disk by SeaBIOS, keeps what was written, answers its power button', async (t) => {
  const device = 'virtio-blk-pci,drive=root,serial=root,bootindex=0';
  const vm = boot(t, ['-machine', 'q35', '-m', '128', '-smp', '2', ...disk, '-device', device]);
  const [, cpus, kilobytes] = await vm.console.next(/vmguest: ready uptime=\S+ cpus=(\d+) mem=(\d+)kB/);
  t.equal(cpus, '2');
  t.ok(Number(kilobytes) > 64 * 1024 && Number(kilobytes) < 128 * 1024, 'the memory of -m 128', {
    kilobytes,
  });

  await vm.type('echo he""llo');
  t.ok(await vm.console.next(/^echo he""llo\nhello\n/), 'the terminal echoes what is typed');
  await vm.type('false');
  t.ok(await vm.console.next(/^vmguest: status 1$/m));
  await vm.type('disks');
  t.ok(await vm.console.next(/^disk vda bytes=268435456 ro=0 serial=root$/m));

  await vm.type('write-pattern first 2');
  t.ok(await vm.console.next(/^pattern written$/m));
  await vm.type('reboot');
  await vm.console.next(/vmguest: ready/);
  await vm.type('verify-pattern first 2');
  t.ok(await vm.console.next(/^pattern ok$/m), 'the pattern is there after a reboot');
  await vm.type('verify-pattern second 2');
  t.ok(await vm.console.next(/^pattern BAD$/m), 'another one is not');

  vm.execute('system_powerdown');
  t.ok(await vm.console.next(/vmguest: power button/));
  t.ok(await vm.qmp.next(/"event": "SHUTDOWN".*"reason": "guest-shutdown"/));
  t.equal(await vm.exit, 0);
});

void t.test('boots from the same disk by UEFI', async (t) => {
  const variables = join(t.testdir(), 'vars.fd');
  copyFileSync(`${ovmf}/OVMF_VARS_4M.fd`, variables);
  const vm = boot(t, [
    ...['-machine', 'q35', '-m', '256', ...disk, '-device', 'virtio-blk-pci,drive=root,bootindex=0'],
    ...['-drive', `if=pflash,format=raw,readonly=on,file=${ovmf}/OVMF_CODE_4M.fd`],
    ...['-drive', `if=pflash,format=raw,file=${variables}`],
  ]);
  await vm.console.next(/vmguest: ready/);
  await vm.type('cat /sys/firmware/efi/fw_platform_size');
  t.ok(await vm.console.next(/^64$/m));
  await vm.type('poweroff');
  t.ok(await vm.qmp.next(/"event": "SHUTDOWN".*"reason": "guest-shutdown"/));
  t.equal(await vm.exit, 0);
});

void t.test(
  'boots by its kernel alone, gives its console fast and whole, can be deaf, can panic',
  async (t) => {
    const nic = ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,mac=52:54:00:00:00:07'];
    const machine = ['-machine', 'q35', '-m', '128', '-device', 'pvpanic-pci', ...nic];
    const vm = boot(t, [...machine, ...direct()]);
    await vm.type('nics');
    t.ok(await vm.console.next(/^nic eth0 mac=52:54:00:00:00:07 mtu=1500 driver=virtio_net$/m));

    await vm.type('burst 100001');
    const [, text = '', checksum] = await vm.console.next(/burst-begin 100001\n([^]*)\nburst-end (\w+)\n/);
    t.equal(text.length, 100_001);
    t.equal(createHash('sha256').update(text).digest('hex'), checksum);

    await vm.type('hang');
    await vm.console.next(/vmguest: deaf to the power button/);
    vm.execute('system_powerdown');
    t.ok(await vm.qmp.next(/"event": "POWERDOWN"/));
    await vm.type('echo a""live');
    t.ok(await vm.console.next(/^alive$/m));

    await vm.type('panic');
    t.ok(await vm.console.next(/Kernel panic - not syncing: sysrq triggered crash/));
    t.ok(await vm.qmp.next(/"event": "GUEST_PANICKED"/));
    t.ok(await vm.qmp.next(/"event": "SHUTDOWN".*"reason": "guest-panic"/));
    t.equal(await vm.exit, 0);
  },
);

void t.test(
  'boots on a microvm without ACPI, where a reset is the way out, and runs what its kernel is told',
  async (t) => {
    const options = 'vmguest.run="echo ran $((6*7)); reboot -f"';
    const vm = boot(t, ['-machine', 'microvm,acpi=off', '-m', '128', '-no-reboot', ...direct(options)]);
    await vm.console.next(/vmguest: ready/);
    t.ok(await vm.console.next(/ran 42\n/));
    t.ok(await vm.qmp.next(/"event": "SHUTDOWN".*"reason": "guest-reset"/));
    t.equal(await vm.exit, 0);
  },
);

void t.test('boots on a microvm with ACPI: virtio-mmio, power button', async (t) => {
  // TCG offers this machine no timer that the kernel could measure the TSC by.
  const options = 'tsc_early_khz=2500000';
  const machine = ['-machine', 'microvm,acpi=on', '-m', '128'];
  const devices = ['-device', 'virtio-blk-device,drive=root,serial=root'];
  const vm = boot(t, [...machine, ...disk, ...devices, ...direct(options)]);
  await vm.console.next(/vmguest: ready/);
  await vm.type('disks');
  t.ok(await vm.console.next(/^disk vda bytes=268435456 ro=0 serial=root$/m));
  vm.execute('system_powerdown');
  t.ok(await vm.console.next(/vmguest: power button/));
  t.ok(await vm.qmp.next(/"event": "SHUTDOWN".*"reason": "guest-shutdown"/));
  t.equal(await vm.exit, 0);
});
