/** A guest whose watchdog expires, through containerd. */
import t from 'tap';
import { privateContainerd } from '../support/containerd.ts';
import { ctrRun } from '../support/ctr-run.ts';

/**
 * A line for the guest's shell that does what a driver does, of which its kernel has none, and then never again: ticks of 1 µs
 * and so two stages of a second each, and go. Source: Intel 6300ESB ICH datasheet, "WDT Configuration Register" (60h) and "WDT
 * Lock Register" (68h).
 */
function armWatchdog(): string {
  const byte = (value: number): string =>
    value === 0 ? 'head -c 1 /dev/zero' : `awk 'BEGIN { printf "%c", ${value} }'`;
  const write = (at: number, ...values: number[]): string =>
    `(${values.map(byte).join('; ')}) | dd of=config conv=notrunc bs=${values.length} seek=${at / values.length} iflag=fullblock`;
  return `cd /sys/bus/pci/devices/0000:00:16.0 && ${write(0x60, 4, 0)} && ${write(0x68, 2)}`;
}

void t.test('a guest that does not serve its watchdog in time is reset', async (t) => {
  const containerd = await privateContainerd(t);
  const run = await ctrRun(containerd, 'watched', { annotations: { 'vmshim.io/watchdog': 'i6300esb' } });
  await run.console.until('vmguest: ready');
  const status = async (): Promise<unknown> =>
    JSON.parse((await containerd.vmctl('status', 'watched', '--json')).stdout);
  const { qemuPid } = (await status()) as { readonly qemuPid: number };
  const from = run.console.text.length;
  run.type(armWatchdog());
  await run.console.until('vmguest: booting', from);
  t.match(await status(), { qemuPid, powerState: 'on' }, 'in place, as by its reset button');
  await containerd.ctr('tasks', 'kill', '--signal', 'SIGKILL', 'watched');
  t.equal(await run.exited, 137);
});
