/**
 * Boots small guests under the node's KVM, several at once, for ever the same: the quickest way to see whether this QEMU's
 * emulation of virtualization can be trusted. Started by `scripts/testbed boots`; runs inside the node.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';

const count = Number(process.env['VMSHIM_TESTBED_BOOTS']);
const guest = process.env['VMSHIM_TEST_GUEST'] ?? '';
/** More vCPUs than the node has CPUs, so that they are taken off and put on again. */
const AT_ONCE = 3;
const VCPUS = 2;
/** A boot takes seconds; one that lost an interrupt takes for ever. */
const SECONDS = 600;
/** How late a timer of the node may fire, however busy it is. One that is lost fires when something else wakes its CPU. */
const LATE_MS = [250, 1000, 4000];

const lines = readFileSync(join(import.meta.dirname, '../guest/cmdline'), 'utf8').trim();

interface Boot {
  /** QEMU's exit status: 0 if the guest powered off. */
  readonly status: number | null;
  readonly said: string;
}

async function boot(): Promise<Boot> {
  const args = [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-machine', 'q35'],
    ...['-accel', 'kvm', '-cpu', 'host', '-smp', String(VCPUS), '-m', '128', '-serial', 'stdio'],
    ...['-kernel', join(guest, 'kernel'), '-initrd', join(guest, 'initrd')],
    ...['-append', `${lines} vmguest.run="yes | head -c 8M >/dev/null; poweroff -f"`],
  ];
  const command = ['--kill-after=5', String(SECONDS), 'qemu-system-x86_64', ...args];
  const qemu = spawn('timeout', command, { stdio: ['ignore', 'pipe', 'inherit'] });
  const status = new Promise<number | null>((resolve) => qemu.on('close', resolve));
  const said = await text(qemu.stdout);
  return { status: await status, said };
}

/** Counts the late timers of the last CPU of each NUMA node. */
function lateTimers(): { end: () => Promise<string[]> } {
  const program = `let last = performance.now(), worst = 0, late = [0, 0, 0];
    setInterval(() => {
      const gap = performance.now() - last;
      last += gap;
      worst = Math.max(worst, gap);
      ${JSON.stringify(LATE_MS)}.forEach((bound, i) => { if (gap > bound) late[i]++; });
    }, 50);
    process.on('SIGTERM', () => { console.log(late.join(' '), 'worst', worst | 0); process.exit(); });`;
  const cpulist = (node: number): string =>
    readFileSync(`/sys/devices/system/node/node${node}/cpulist`, 'utf8');
  const cpus = [0, 1].map((node) => cpulist(node).trim().split(/[,-]/).at(-1) ?? '');
  const watchers = cpus.map((cpu) =>
    spawn('taskset', ['-c', cpu, 'node', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
  return {
    end: async () =>
      await Promise.all(
        watchers.map(async (watcher) => {
          watcher.kill();
          return (await text(watcher.stdout)).trim();
        }),
      ),
  };
}

// Lines of stderr are shown as they come; of TAP the runner of all files shows failures only.
const tell = (line: string): void => void process.stderr.write(`${line}\n`);

void t.test(`${count} boots, ${AT_ONCE} at once`, async (t) => {
  const timers = lateTimers();
  let left = count;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (left > 0) {
        const number = count - --left;
        const began = performance.now();
        const { status, said } = await boot();
        const seconds = ((performance.now() - began) / 1000).toFixed(1);
        t.ok(status === 0 && said.includes('vmguest: ready'), `boot ${number}`, { status, said });
        tell(`boot ${number}: status ${status ?? 'none'}, ${seconds} s`);
      }
    }),
  );
  tell(`timers late by more than ${LATE_MS.join(', ')} ms: ${(await timers.end()).join('; ')}`);
});
